"""What a Whisper folder must hold, and what its files say. Nothing is loaded here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.errors import BadModel, BadRequest
from tools.quantize import folder as hugging_face
from tools.quantize.folder import TOKENIZER

PREPROCESSOR = "preprocessor_config.json"
RATE = 16_000  # Hz; no Whisper takes another


def check(folder: Path) -> None:
    """Refuse what is no Whisper, before anything is loaded.

    Raises:
        BadModel: a file is missing, the weights are a pickle, or the model is another.
    """
    config = _json(folder / hugging_face.CONFIG, "the folder holds no model")
    kind = config.get("model_type")
    if kind != "whisper":
        raise BadModel(f'no Whisper: model_type is "{str(kind)[:40]}"', where=str(folder))
    hugging_face.check(folder)
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


def count(folder: Path) -> int:
    """Number of weights. Raises BadModel: their files are not whole."""
    return sum(math.prod(weight.shape) for weight in hugging_face.weights(folder))


def _json(path: Path, missing: str) -> Mapping[str, Any]:
    if not path.exists():
        raise BadModel(missing, where=str(path.parent))
    return hugging_face.read_json(path, dict)
