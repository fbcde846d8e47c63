"""Where long steps keep what they made, so that interrupted work resumes.

A step's directory appears under its own name only when the step is whole: it is built beside it and
renamed. What an interruption left is removed when the step is begun again.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from agent import __version__
from agent.registry.layout import storage, write_atomically
from tools.quantize import locks
from tools.quantize.family import Artifact

T = TypeVar("T")

MOST_KEPT = 16  # works, and exports; the ones not used for longest go first
HUB = "hub"  # downloads: large, and not made here
EXPORT = "export"  # what the names of exports begin with
_GONE = ".gone"  # what the names of folders end with that are being removed

#: Libraries whose versions decide what a model computes, or what is made of it.
LIBRARIES = (
    "onnxruntime", "onnx", "ai-edge-litert", "onnxruntime-genai", "ctranslate2", "tokenizers",
    "transformers", "torch", "optimum",
)  # fmt: skip


def work_key(kind: str, *made_of: object) -> str:
    """The name of a work: a digest of everything that its steps' results depend on.

    Args:
        kind: of family.
        made_of: plain values, dataclasses or bytes: the source's contents, the options that change
            what is built, and what it is judged on. The tool and the libraries are added here.
    """
    parts = [__version__, versions(LIBRARIES), made_of]
    text = msgspec.json.encode(parts, order="sorted")
    return f"{kind}-{hashlib.sha256(text).hexdigest()[:24]}"


def versions(libraries: Sequence[str]) -> list[str]:
    """Name and version of those that are installed."""
    found = []
    for name in libraries:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return found


class WorkDirectory:
    """The steps of one source and one set of options; one run at a time works on them.

    Args:
        root: of all work, for example ``~/.cache/edge-quantize``.
        key: the family's; another source or option is other work.
    """

    def __init__(self, root: Path, key: str) -> None:
        self.path = root / key
        self._begin()

    @contextmanager
    def held(self) -> Iterator["WorkDirectory"]:
        """Keep other runs of the same work waiting, and from removing it."""
        with locks.held(self.path):
            self._begin()  # it may have been removed while this run waited
            forget_old(self.path.parent)
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
        _remove(self.path)
        self._begin()
        return self

    def _begin(self) -> None:
        with storage(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self.path.touch()

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


@contextmanager
def exported(
    root: Path, made_of: object, file: str, make: Callable[[Path], object]
) -> Iterator[Path]:
    """A file that was exported once; it stays for as long as it is held.

    Args:
        root: of all work.
        made_of: what the file depends on.
        file: its name.
        make: writes it; called where it is not there yet.

    Raises:
        StorageFailed: the disk is full, read-only or failing.
    """
    folder = root / work_key(EXPORT, made_of)
    place, half_made = folder / file, folder / f"half-{file}"
    while True:
        with locks.held(folder, shared=True):
            if place.exists():
                folder.touch()
                yield place
                return
        with locks.held(folder):
            if not place.exists():
                with storage(place):
                    folder.mkdir(parents=True, exist_ok=True)
                    half_made.unlink(missing_ok=True)
                make(half_made)
                half_made.rename(place)


def forget_old(root: Path) -> None:
    """Remove what was not used for longest: works, and exports, that no run holds."""
    with storage(root):
        folders = [p for p in root.iterdir() if p.is_dir() and p.name != HUB]
    for path in folders:
        if path.name.endswith(_GONE):  # an interrupted removal
            shutil.rmtree(path, ignore_errors=True)
    left = [path for path in folders if not path.name.endswith(_GONE)]
    for group in (True, False):
        kind = [path for path in left if path.name.startswith(f"{EXPORT}-") == group]
        for path in sorted(kind, key=_last_used, reverse=True)[MOST_KEPT:]:
            with locks.held_for_removal(path) as free:
                if free:
                    _remove(path)


def _last_used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # another run has removed it
        return 0.0


def _remove(folder: Path) -> None:
    """Under another name first, so that nobody takes for whole what is half removed."""
    gone = folder.with_name(f"{folder.name}{_GONE}")
    shutil.rmtree(gone, ignore_errors=True)
    with storage(folder):
        if folder.exists():
            folder.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


class _Kept(msgspec.Struct):
    files: dict[str, Any]
    engine: str
    parameters: dict[str, Any]
    notes: list[str]
