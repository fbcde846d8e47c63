"""Where long steps keep what they made, so that interrupted work resumes.

A step's directory appears under its own name only when the step is whole: it is built beside it and
renamed. What an interruption left is removed when the step is begun again.
"""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent.registry.layout import locked, storage, write_atomically
from tools.quantize.family import Artifact

T = TypeVar("T")

MOST_KEPT = 16  # works; the ones not used for longest go first
HUB = "hub"  # downloads: large, and not made here


class WorkDirectory:
    """The steps of one source and one set of options; one run at a time works on them.

    Args:
        root: of all work, for example ``~/.cache/edge-quantize``.
        key: the family's; another source or option is other work.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.path = root / key
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            _forget_old(root)

    @contextmanager
    def held(self) -> Iterator["WorkDirectory"]:
        """Keep other runs of the same work waiting."""
        with locked(self.path.with_name(f"{self.path.name}.lock")):
            yield self

    def artifact(self, step: str, make: Callable[[Path], Artifact]) -> Artifact:
        """The artifact of a step: the one kept, or a new one made in an empty directory.

        Raises:
            StorageFailed: the disk is full, read-only or failing.
        """
        if not (self.path / step / "artifact.json").exists():
            self._make(self.path / step, make)
        return self.kept(step)

    def kept(self, step: str) -> Artifact:
        """The artifact of a step that is done."""
        place = self.path / step
        described = place / "artifact.json"
        fields = msgspec.json.decode(described.read_bytes(), type=_Kept)
        return Artifact(place, fields.files, fields.engine, fields.parameters, tuple(fields.notes))

    def value(self, step: str, kind: type[T], make: Callable[[], T]) -> T:
        """A plain value (dataclass, list, number) of a step: the one kept, or a new one."""
        place = self.path / f"{step}.json"
        if place.exists():
            return msgspec.json.decode(place.read_bytes(), type=kind)
        made = make()
        write_atomically(place, msgspec.json.encode(made))
        return made

    def emptied(self) -> "WorkDirectory":
        """The same work, with nothing done."""
        shutil.rmtree(self.path, ignore_errors=True)
        return WorkDirectory(self.path.parent, self.path.name)

    def _make(self, place: Path, make: Callable[[Path], Artifact]) -> None:
        half_made = place.with_name(f"{place.name}.new")
        with storage(place):
            shutil.rmtree(half_made, ignore_errors=True)
            shutil.rmtree(place, ignore_errors=True)
            half_made.mkdir()
        made = make(half_made)
        kept = _Kept(dict(made.files), made.engine, dict(made.parameters), list(made.notes))
        with storage(place):
            (half_made / "artifact.json").write_bytes(msgspec.json.encode(kept))
            os.sync()
            half_made.rename(place)


def _forget_old(root: Path) -> None:
    """Remove the works that were not used for longest, with their locks."""
    works = [path for path in root.iterdir() if path.is_dir() and path.name != HUB]
    works.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    for path in works[MOST_KEPT:]:
        shutil.rmtree(path, ignore_errors=True)
        path.with_name(f"{path.name}.lock").unlink(missing_ok=True)


class _Kept(msgspec.Struct):
    files: dict[str, Any]
    engine: str
    parameters: dict[str, Any]
    notes: list[str]
