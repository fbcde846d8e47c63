"""Pickles run code when they are read: they are refused unread, with the command that converts them."""

import json
import shlex
from pathlib import Path

from agent.errors import BadModel

SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib")
TRANSFORMERS = "pytorch_model"  # what transformers' own pickles are called, whole or in parts

#: By the class that the configuration names, so that tied weights are written once.
_FOLDER = (
    "import transformers as t; f = {folder}; c = t.AutoConfig.from_pretrained(f); "
    "m = getattr(t, c.architectures[0]).from_pretrained(f, weights_only=True, dtype={dtype}); "
    "m.save_pretrained(f, safe_serialization=True)"
)
_FILE = (
    "import torch; from safetensors.torch import save_file; "
    "found = torch.load({path}, weights_only=True); "
    "save_file({{k: v.contiguous().clone() for k, v in found.items()}}, {target}, "
    "metadata={{{format}: {pt}}})"
)


def refuse(path: Path) -> None:
    """Refuse a file that would run code when it is read.

    Raises:
        BadModel: the file is a pickle; the hint is the command that converts it.
    """
    if path.is_file() and path.suffix in SUFFIXES:
        raise _refusal(path)


def refuse_in(folder: Path) -> None:
    """Refuse a folder that holds a pickle, transformers' own first. Raises as `refuse`."""
    files = sorted(folder.iterdir(), key=lambda p: (not p.name.startswith(TRANSFORMERS), p.name))
    for path in files:
        refuse(path)


def _refusal(path: Path) -> BadModel:
    return BadModel(
        "pickle files run code when they are read, and are not accepted",
        where=str(path),
        hint=f"If you trust it, convert it to safetensors: {shlex.join(['python', '-c', _code(path)])}",
    )


def _code(path: Path) -> str:
    """A program that writes what the folder's readers look for, or a file of the pickle's own name."""
    of_transformers = (path.parent / "config.json").is_file()
    if of_transformers and path.name.startswith(TRANSFORMERS):
        return _FOLDER.format(folder=json.dumps(str(path.parent)), dtype='"auto"')
    name = "model.safetensors" if of_transformers else f"{path.stem}.safetensors"
    target = json.dumps(str(path.with_name(name)))
    return _FILE.format(path=json.dumps(str(path)), target=target, format='"format"', pt='"pt"')
