"""Notices that something was installed or activated, by whichever process.

Nobody has to look again and again: the kernel says when a file is replaced (inotify).
"""

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

_MOVED_TO, _ONLY_DIRECTORIES = 0x80, 0x0100_0000  # <sys/inotify.h>
_EVENT = struct.Struct("iIII")


class Watch:
    """A descriptor that can be read when a file of a directory was replaced.

    Attributes:
        descriptor: for an event loop to wait on.
    """

    def __init__(self, directory: Path, names: Callable[[str], bool]) -> None:
        """Watch a directory that exists.

        Args:
            directory: its files, not those below it.
            names: which of them are of interest.

        Raises:
            OSError: it cannot be watched.
        """
        libc = ctypes.CDLL(None, use_errno=True)
        self._names = names
        self.descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.descriptor < 0:
            raise _failure(directory)
        path = os.fsencode(directory)
        if libc.inotify_add_watch(self.descriptor, path, _MOVED_TO | _ONLY_DIRECTORIES) < 0:
            error = _failure(directory)
            os.close(self.descriptor)
            raise error

    def changed(self) -> bool:
        """Whether a file of interest was replaced since this was last asked; never waits."""
        found = False
        while True:
            try:
                data = os.read(self.descriptor, 65536)
            except BlockingIOError:
                return found
            found = any(map(self._names, _replaced(data))) or found

    def close(self) -> None:
        """Watch no longer. Called once."""
        os.close(self.descriptor)


def _replaced(data: bytes) -> list[str]:
    names, at = [], 0
    while at < len(data):
        _, _, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size + length
        names.append(os.fsdecode(data[at - length : at].rstrip(b"\0")))
    return names


def _failure(directory: Path) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), str(directory))
