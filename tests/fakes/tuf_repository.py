"""A repository that can misbehave: a source, as production has it, over files in memory.

Signed for real by the operator's tools; what a test changes afterwards is what an attacker, a bad
disk or a bad network changes.
"""

from collections.abc import Iterator
from pathlib import Path

from agent.errors import NotFound, NotReachable
from agent.trust.source import Source

CHUNK = 64  # bytes; small, so that cuts fall inside files


class FakeRepository(Source):
    """Files by path, and the faults that are asked for.

    Attributes:
        files: contents by path, ``metadata/…`` and ``targets/…``; change them at will.
        cut_after: bytes of targets after which the network is gone; None for never.
        endless: paths that never end.
        reads: every path and offset that was asked for.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.cut_after: int | None = None
        self.endless: set[str] = set()
        self.reads: list[tuple[str, int]] = []

    @classmethod
    def of(cls, directory: Path) -> "FakeRepository":
        """What a directory holds now."""
        paths = [path for path in directory.rglob("*") if path.is_file()]
        return cls({str(path.relative_to(directory)): path.read_bytes() for path in paths})

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        self.reads.append((path, offset))
        if path not in self.files:
            raise NotFound("the repository has no such file", where=path)
        data = self.files[path][offset:]
        for start in range(0, len(data), CHUNK):
            chunk = data[start : start + CHUNK]
            self._count(path, len(chunk))
            yield chunk
        while path in self.endless:
            yield bytes(1 << 20)

    def paths(self, ending: str) -> list[str]:
        """Paths that end so, in order."""
        return sorted(path for path in self.files if path.endswith(ending))

    def _count(self, path: str, size: int) -> None:
        if self.cut_after is None or not path.startswith("targets/"):
            return
        self.cut_after -= size
        if self.cut_after < 0:
            raise NotReachable("the network is gone", where=path)
