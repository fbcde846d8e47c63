"""A person's own function that builds a torch module: found, called, and its errors told with their line."""

import importlib
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from agent.errors import BadRequest
from tools.quantize.libraries import one_line

Builder = Callable[[], Any]

_HINT = "Write module:function or file.py:function"


def find_builder(name: str) -> Builder:
    """The function that a name leads to.

    Raises:
        BadRequest: there is none, or its file raises an error while it is loaded.
    """
    module, _, attribute = name.rpartition(":")
    if not module:
        raise BadRequest("no such builder: no module and no file is named", where=name, hint=_HINT)
    try:
        loaded = (
            _of_file(Path(module)) if module.endswith(".py") else importlib.import_module(module)
        )
    except (ImportError, OSError) as error:
        raise BadRequest(f"no such builder: {error}", where=name, hint=_HINT) from error
    except Exception as error:
        message = f"no such builder: its file raises {said(error)}"
        raise BadRequest(message, where=place_of(error, name, module)) from error
    builder: Builder | None = getattr(loaded, attribute, None)
    if not callable(builder):
        message = f'no such builder: there is no function "{attribute}"'
        raise BadRequest(message, where=name, hint=_HINT)
    return builder


def built(builder: Builder, name: str) -> tuple[Any, Any]:
    """The torch module, and its example input: a tensor, or a mapping of names to tensors.

    Args:
        builder: the function.
        name: of it, as it was given.

    Raises:
        BadRequest: it raises an error, or returns something else.
    """
    try:
        made = builder()
    except Exception as error:
        where = place_of(error, name, file_of(builder))
        raise BadRequest(f"the builder raised {said(error)}", where=where) from error
    if isinstance(made, tuple | list) and len(made) == 2 and _fits(*made):
        return made[0], made[1]
    hint = "Return a torch module and an example input: a tensor, or names with their tensors"
    raise BadRequest(f"the builder returned {_kind(made)}", where=name, hint=hint)


def file_of(builder: Builder) -> str:
    """Where a builder is written; empty when that cannot be told."""
    return str(getattr(getattr(builder, "__code__", None), "co_filename", ""))


def place_of(error: Exception, name: str, file: str) -> str:
    """The builder's name, and the last line of its file that an error went through."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == file]
    return f"{name}, line {lines[-1]}" if lines else name


def said(error: Exception) -> str:
    """The class of an error and what it says, on one line."""
    text = one_line(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _of_file(path: Path) -> Any:
    """A file as a module. Compiled anew: kept bytecode is told from old by the second it was made in."""
    module = ModuleType(path.stem)
    module.__file__ = str(path)
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))  # noqa: S102 - the user's own
    except SyntaxError as error:
        raise ImportError(f"{path}, line {error.lineno}: {error.msg}") from error
    return module


def _fits(module: Any, example: Any) -> bool:
    import torch

    given = list(example.values()) if isinstance(example, Mapping) else [example]
    tensors = bool(given) and all(isinstance(one, torch.Tensor) for one in given)
    return isinstance(module, torch.nn.Module) and tensors


def _kind(made: Any) -> str:
    if isinstance(made, tuple | list):
        return f"({', '.join(type(one).__name__ for one in made[:5])})"
    return "nothing" if made is None else type(made).__name__
