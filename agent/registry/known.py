"""Chunks that the installed models hold already: what an update need not fetch again."""

import mmap
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from agent.trust.chunks import MIN_BYTES, cut
from agent.trust.digest import sha256_hex


class KnownChunks(Mapping[str, bytes]):
    """Chunks by their SHA-256, found by cutting files where a publisher cuts them.

    The files are read when the first chunk is asked for, and a chunk's bytes are verified when they
    are taken: a file may have been damaged or removed since.

    Args:
        paths: of the files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = paths
        self._places: dict[str, tuple[Path, int, int]] | None = None

    def __getitem__(self, sha256: str) -> bytes:
        path, start, end = self._index()[sha256]
        with suppress(OSError), path.open("rb") as file:
            file.seek(start)
            data = file.read(end - start)
            if sha256_hex(data) == sha256:
                return data
        raise KeyError(sha256)

    def __contains__(self, sha256: object) -> bool:
        return sha256 in self._index()

    def __iter__(self) -> Iterator[str]:
        return iter(self._index())

    def __len__(self) -> int:
        return len(self._index())

    def _index(self) -> dict[str, tuple[Path, int, int]]:
        if self._places is None:
            self._places = {}
            for path in self._paths:
                with suppress(OSError):
                    self._places |= _places(path)
        return self._places


def _places(path: Path) -> dict[str, tuple[Path, int, int]]:
    """Where each chunk of a file is; nothing of one that is no longer than the smallest chunk."""
    if path.stat().st_size <= MIN_BYTES:
        return {}
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        found = {}
        for start, end in cut(data):
            with data[start:end] as chunk:
                found[sha256_hex(chunk)] = (path, start, end)
        return found
