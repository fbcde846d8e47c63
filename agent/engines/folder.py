"""Verified bytes as a folder, for a library that takes nothing else.

The folder lies in memory (tmpfs) where there is room, belongs to this user alone and is made of the
bytes that were verified; the installed files are not looked at again.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from agent.errors import StorageFailed

PREFIX = "edge-agent-model-"
MEMORY = "/dev/shm"  # noqa: S108 (the folder in it is private)
SPARE = 2**20  # bytes beside the files themselves

_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2


class LentFolder:
    """A private folder.

    Attributes:
        path: where it is.
    """

    def __init__(self, files: Mapping[str, bytes], names: Iterable[str]) -> None:
        """Raises StorageFailed: there is no room for the files."""
        names = list(names)
        parent = _parent(sum(len(files[name]) for name in names))
        _sweep(parent)
        self.path = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent))
        self._open: dict[str, int] = {}
        try:
            for name in names:
                self._write(name, files[name])
        except OSError as error:
            self.close()
            raise _no_room(parent) from error

    def withdraw(self, names: Iterable[str]) -> None:
        """Take files out, after they were loaded, and give back what nobody uses of their memory.

        A runtime maps weights and lets most of them go again when it has arranged them its own way;
        the pages of a file in memory would stay for the sake of the few that it keeps.
        """
        for name in names:
            (self.path / name).unlink(missing_ok=True)
            descriptor = self._open.pop(name, None)
            if descriptor is not None:
                _punch(descriptor)
                os.close(descriptor)

    def close(self) -> None:
        """Remove it. Idempotent."""
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        self._open[name] = descriptor
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]


def release_unused() -> None:
    """Have the allocator give back what a load has left: weights as they came, parsed files."""
    import ctypes

    with contextlib.suppress(AttributeError):  # an allocator other than glibc's keeps nothing
        ctypes.CDLL(None).malloc_trim(0)


def _parent(size: int) -> Path:
    places = (MEMORY, os.environ.get("RUNTIME_DIRECTORY", ""), tempfile.gettempdir())
    for place in filter(None, places):
        with contextlib.suppress(OSError):
            free = os.statvfs(place)
            if free.f_bavail * free.f_frsize > size + SPARE and os.access(place, os.W_OK):
                return Path(place)
    raise _no_room(Path(MEMORY))


def _no_room(parent: Path) -> StorageFailed:
    return StorageFailed("no room for the model's files", where=str(parent), hint="Make it larger")


def _sweep(parent: Path) -> None:
    """Remove the folders of processes that are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        found = re.match(rf"{PREFIX}(\d+)-", folder.name)
        with contextlib.suppress(OSError):
            ours = folder.lstat().st_uid == os.geteuid()
            if found and ours and not Path(f"/proc/{found[1]}").exists():
                shutil.rmtree(folder, ignore_errors=True)


def _punch(descriptor: int) -> None:
    """Free the parts of a file that this process has not mapped."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    status, start = os.fstat(descriptor), 0
    for first, last in [*sorted(_mapped(status.st_ino)), (status.st_size, 0)]:
        if first > start:
            mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
            offset, length = ctypes.c_int64(start), ctypes.c_int64(first - start)
            libc.fallocate(descriptor, mode, offset, length)  # memory that stays is all it costs
        start = max(start, last)


def _mapped(inode: int) -> Iterator[tuple[int, int]]:
    """First and last offset of each mapping of a file in this process."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, offset, _, number, *_ = line.split(maxsplit=5)
        if int(number) == inode:
            first, last = (int(edge, 16) for edge in span.split("-"))
            yield int(offset, 16), int(offset, 16) + last - first
