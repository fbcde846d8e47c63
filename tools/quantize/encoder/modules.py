"""What a folder of sentence-transformers says that its vectors are made of.

`modules.json` lists the steps from a text to a vector. A device does a transformer, the mean of its
tokens' vectors or the first one, and lengths of 1: whatever else is listed would be left out without a
word, and is refused.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BadModel
from agent.tasks.embedding.encoder import MAX_WINDOW
from agent.tasks.embedding.pooling import Pooling
from tools.quantize.folder import CONFIG, read_json

MODULES = "modules.json"
MAX_TOKENS = 256  # where the folder does not say

_PREFIX = "pooling_mode_"
_POOLINGS: Mapping[str, Pooling] = {"mean_tokens": "mean", "cls_token": "cls"}


class _Module(msgspec.Struct):
    type: str
    path: str = ""

    @property
    def kind(self) -> str:
        return self.type.rsplit(".", 1)[-1]


#: Where there is no `modules.json`: sentence-transformers' own layout, and the mean without one.
_USUAL = (_Module("Transformer"), _Module("Pooling", "1_Pooling"), _Module("Normalize"))


def pooling(folder: Path) -> dict[str, Any]:
    """`pooling` and `normalize` of the manifest.

    Raises:
        BadModel: a file cannot be read, or a module is listed that a device does not do.
    """
    found = _listed(folder)
    kinds = tuple(module.kind for module in found)
    for module, wanted in zip(found, ("Transformer", "Pooling", "Normalize"), strict=False):
        if module.kind != wanted:
            raise _not_done(folder, module)
    if len(found) > 3:
        raise _not_done(folder, found[3])
    if len(found) < 2:
        raise BadModel("lists no pooling", where=str(folder / MODULES))
    if found[0].path:
        message = f"the transformer is in {found[0].path}, not in the folder itself"
        raise BadModel(message, where=str(folder / MODULES))
    config = folder / found[1].path / CONFIG
    if (folder / MODULES).exists() and not config.is_file():
        raise BadModel("is listed, and is not there", where=str(config))
    return {"pooling": _pooling(config), "normalize": "Normalize" in kinds}


def window(folder: Path) -> int:
    """The most tokens of a text: what sentence-transformers wrote, or `MAX_TOKENS`. Raises BadModel."""
    path = folder / "sentence_bert_config.json"
    found = _settings(path).get("max_seq_length")
    if found is None:
        return MAX_TOKENS
    if not isinstance(found, int) or not 2 <= found <= MAX_WINDOW:
        message = f"max_seq_length must be from 2 to {MAX_WINDOW}, not {str(found)[:20]}"
        raise BadModel(message, where=str(path))
    return found


def _settings(path: Path) -> dict[str, Any]:
    """What a file sets; nothing where it is not there."""
    return read_json(path, dict) if path.exists() else {}


def _listed(folder: Path) -> list[_Module]:
    path = folder / MODULES
    if not path.exists():
        return list(_USUAL)
    try:
        return msgspec.convert(read_json(path, list), list[_Module])
    except msgspec.ValidationError as error:
        raise BadModel(str(error), where=str(path)) from error


def _pooling(path: Path) -> Pooling:
    config = _settings(path)
    on = [n.removeprefix(_PREFIX) for n, v in config.items() if n.startswith(_PREFIX) and v is True]
    if not on and "pooling_mode" in config:  # how newer releases write it
        named = str(config["pooling_mode"])
        on = [next((mode for mode, short in _POOLINGS.items() if short == named), named)]
    on = on or ["mean_tokens"]
    if len(on) > 1 or on[0] not in _POOLINGS:
        message = f"no pooling that a device does: {', '.join(on)[:100]}"
        raise BadModel(message, where=str(path), hint="It does mean_tokens or cls_token")
    return _POOLINGS[on[0]]


def _not_done(folder: Path, module: _Module) -> BadModel:
    place = f" ({module.path})" if module.path else ""
    return BadModel(
        f"no module that a device does there: {module.kind}{place}",
        where=str(folder / MODULES),
        hint="It does Transformer, Pooling and, if listed, Normalize, in this order",
    )
