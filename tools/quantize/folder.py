"""A Hugging Face folder: whether its weights are safetensors, whole, and named as transformers looks.

Nothing is loaded here, and no pickle is read: transformers would, where it finds no safetensors.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from agent.errors import BadModel
from agent.registry.layout import storage
from tools.quantize import pickles

T = TypeVar("T", dict[str, Any], list[Any])

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
BESIDE = {".json", ".jinja", ".txt", ".model"}  # what libraries read beside the weights
MOST_HEADER = 100 * 2**20  # bytes; the bound of the safetensors format itself
AGAIN = "Download it, or save it, again"


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a safetensors file, before it is read."""

    name: str
    shape: tuple[int, ...]


class _Entry(msgspec.Struct):
    shape: list[Annotated[int, msgspec.Meta(ge=0)]]
    data_offsets: tuple[int, int]


def is_transformers(path: Path) -> bool:
    """Whether a folder is a Hugging Face model whose safetensors transformers would find."""
    return (path / CONFIG).is_file() and any((path / name).is_file() for name in (WEIGHTS, INDEX))


def check(folder: Path) -> None:
    """Refuse what is no Hugging Face folder with whole, safe weights, before anything is loaded.

    Raises:
        BadModel: no configuration, no weights, a pickle, or a file of the weights is not whole.
    """
    if not (folder / CONFIG).is_file():
        raise BadModel(f"no Hugging Face folder: it holds no {CONFIG}", where=str(folder))
    if not is_transformers(folder):
        pickles.refuse_in(folder)
        raise BadModel(
            "it has no weights that transformers would find",
            where=str(folder),
            hint=f"They are expected in {WEIGHTS}, or in the files that {INDEX} names",
        )
    for path in weight_files(folder):
        header(path)


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers takes the weights from.

    Raises:
        BadModel: the index cannot be read, or a file that it names is missing.
    """
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    index = folder / INDEX
    try:
        found = msgspec.json.decode(index.read_bytes(), type=dict[str, Any])["weight_map"]
        paths = [folder / name for name in sorted(set(found.values()))]
    except (
        OSError,
        msgspec.MsgspecError,
        UnicodeDecodeError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise BadModel(f"cannot be read: {error}", where=str(index), hint=AGAIN) from error
    for path in paths:
        if path.parent != folder or path.suffix != ".safetensors":
            raise BadModel(f"names no safetensors file beside it: {path.name}", where=str(index))
        if not path.is_file():
            raise BadModel("a file of the weights is missing", where=str(path), hint=AGAIN)
    return paths


def size(folder: Path) -> int:
    """Bytes of the weights."""
    return sum(path.stat().st_size for path in weight_files(folder))


def weights(folder: Path) -> Iterator[Weight]:
    """Tensors by the headers of the files. Raises BadModel: a file is not whole."""
    for path in weight_files(folder):
        yield from header(path)


def header(path: Path) -> list[Weight]:
    """The tensors of a safetensors file, of which only the header is read.

    Raises:
        BadModel: it is none, or it ends early.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 8 <= length + 8 <= min(MOST_HEADER, size):
                raise ValueError("its header is longer than the file")
            parts = msgspec.json.decode(file.read(length), type=dict[str, msgspec.Raw])
        parts.pop("__metadata__", None)
        entries = {name: msgspec.json.decode(raw, type=_Entry) for name, raw in parts.items()}
    except (OSError, ValueError) as error:  # msgspec's are of the second kind
        raise BadModel(f"no safetensors file: {error}", where=str(path), hint=AGAIN) from error
    whole = 8 + length + max((e.data_offsets[1] for e in entries.values()), default=0)
    if size < whole:
        raise BadModel(f"it ends early: {size} of {whole} bytes", where=str(path), hint=AGAIN)
    return [Weight(name, tuple(entry.shape)) for name, entry in entries.items()]


def config(folder: Path) -> Mapping[str, Any]:
    """The configuration. Raises BadModel: it cannot be read."""
    return read_json(folder / CONFIG, dict)


def read_json(path: Path, kind: type[T]) -> T:
    """What a file holds. Raises BadModel: it cannot be read, or holds something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, kind):
        raise BadModel(f"holds no JSON {'list' if kind is list else 'object'}", where=str(path))
    return found


def files(folder: Path) -> list[Path]:
    """All that libraries are given of a folder, see `staged`. Raises as `weight_files`."""
    return [*weight_files(folder), *_beside(folder)]


def _beside(folder: Path) -> list[Path]:
    return [p for p in sorted(folder.iterdir()) if p.suffix in BESIDE and p.is_file()]


def staged(folder: Path, target: Path) -> Path:
    """A copy to give to a library: the weights as links, what is beside them, and no pickle.

    Raises:
        BadModel: as `weight_files`.
        StorageFailed: there is no room for it.
    """
    with storage(target):
        target.mkdir(parents=True)
        for path in weight_files(folder):
            (target / path.name).symlink_to(path.resolve())
        for path in _beside(folder):
            shutil.copyfile(path, target / path.name)
    return target
