"""How the registry's files reach the disk: whole, or not at all.

Every write goes to a temporary name, is fsynced, renamed, and its directory fsynced. A power cut
at any instruction leaves the old file or the new one.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import NotReady, StorageFailed

RESERVE_BYTES = 16 * 2**20  # left free on the disk for the outbox and the metadata


def write_atomically(path: Path, data: bytes) -> None:
    """Put a file in place.

    Raises:
        StorageFailed: the disk is full, read-only or failing; the old file is still there.
    """
    temporary = path.with_name(f"{path.name}.new")
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make renames and removals in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_space(directory: Path, size: int) -> None:
    """Refuse what the disk cannot hold, before anything is written.

    Raises:
        StorageFailed: fewer than `size` bytes and the reserve are free.
    """
    with storage(directory):
        status = os.statvfs(directory)
    free = status.f_bavail * status.f_frsize
    if size + RESERVE_BYTES > free:
        raise StorageFailed(
            f"{_mib(size)} MiB and a reserve of {_mib(RESERVE_BYTES)} MiB are needed, "
            f"{_mib(free)} MiB are free",
            where=str(directory),
            hint="Remove a model that is not used: edge-agent models remove",
        )


@contextmanager
def storage(path: Path) -> Iterator[None]:
    """Turn the system's errors inside the block into StorageFailed."""
    try:
        yield
    except OSError as error:
        hint = "Free some space on this disk" if error.errno == errno.ENOSPC else ""
        message = error.strerror or str(error)
        raise StorageFailed(message, where=error.filename or str(path), hint=hint) from error


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[None]:
    """One writer at a time, among all processes; released by the kernel when a holder dies.

    Raises:
        NotReady: another holds it, and `wait` is False.
    """
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise NotReady("another process changes the models", where=str(path)) from error
        except OSError as error:
            raise StorageFailed(f"cannot be locked: {error.strerror}", where=str(path)) from error
        yield


def _mib(size: int) -> int:
    return -(-size // 2**20)
