"""What a Whisper folder must hold, and what its files say. Nothing is loaded here."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.errors import BadModel, BadRequest

TOKENIZER = "tokenizer.json"
PREPROCESSOR = "preprocessor_config.json"
RATE = 16_000  # Hz; no Whisper takes another
MOST_HEADER = 100 * 2**20  # bytes; the bound of the safetensors format itself


@dataclass(frozen=True, slots=True)
class Weight:
    """A tensor of a safetensors file, before it is read."""

    name: str
    shape: tuple[int, ...]


def check(folder: Path) -> None:
    """Refuse what is no Whisper, before anything is loaded.

    Raises:
        BadModel: a file is missing, the weights are a pickle, or the model is another.
    """
    config = _json(folder / "config.json", "the folder holds no model")
    kind = config.get("model_type")
    if kind != "whisper":
        raise BadModel(f'no Whisper: model_type is "{str(kind)[:40]}"', where=str(folder))
    if not any(folder.glob("*.safetensors")):
        raise _no_weights(folder)
    if not (folder / TOKENIZER).is_file():
        hint = "Save it with transformers: AutoTokenizer.from_pretrained(…).save_pretrained(…)"
        raise BadModel(f"the folder holds no {TOKENIZER}", where=str(folder), hint=hint)
    sound = _json(folder / PREPROCESSOR, f"the folder holds no {PREPROCESSOR}")
    if sound.get("sampling_rate", RATE) != RATE:
        raise BadModel(f"sound must be of {RATE} Hz", where=str(folder / PREPROCESSOR))


def check_language(folder: Path, language: str) -> None:
    """See that the model knows a language; an empty one is detected.

    Raises:
        BadRequest: it does not.
    """
    tokens = _json(folder / TOKENIZER, f"the folder holds no {TOKENIZER}").get("added_tokens", [])
    if language and f"<|{language}|>" not in {token.get("content") for token in tokens}:
        hint = 'Give a code such as "en"'
        message = f'no language of the model: "{language[:20]}"'
        raise BadRequest(message, where="--language", hint=hint)


def weights(folder: Path) -> Iterator[Weight]:
    """Tensors by the headers of the safetensors files.

    Raises:
        BadModel: a file is none.
    """
    for path in sorted(folder.glob("*.safetensors")):
        for name, entry in _header(path).items():
            if name != "__metadata__":
                yield Weight(name, tuple(entry["shape"]))


def count(folder: Path) -> int:
    """Number of weights."""
    return sum(math.prod(weight.shape) for weight in weights(folder))


def _header(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > min(MOST_HEADER, path.stat().st_size):
                raise ValueError("its header is longer than the file")
            found: dict[str, Any] = json.loads(file.read(size))
            return found
    except (OSError, ValueError) as error:
        raise BadModel(f"no safetensors file: {error}", where=str(path)) from error


def _no_weights(folder: Path) -> BadModel:
    pickles = any(folder.glob("*.bin")) or any(folder.glob("*.pt*"))
    why = "its weights are a pickle, which may run anything" if pickles else "it has no weights"
    hint = "Save it as safetensors: model.save_pretrained(FOLDER, safe_serialization=True)"
    return BadModel(why, where=str(folder), hint=hint)


def _json(path: Path, missing: str) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BadModel(missing, where=str(path.parent)) from error
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot be read: {error}", where=str(path)) from error
    if not isinstance(found, dict):
        raise BadModel("is no JSON object", where=str(path))
    return found
