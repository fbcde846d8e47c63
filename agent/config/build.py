"""Plain TOML values into frozen dataclasses, refusing what does not fit.

A small, strict subset of types is enough for settings: str, int, float, bool, Path, `Literal`,
`tuple[X, ...]`, `X | None` and nested dataclasses. Anything else in a settings class is a mistake of
ours and raises TypeError when the class is first built.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from agent.errors import BadConfig

T = TypeVar("T")


class Wrong(Exception):
    """A value that does not fit; carries its path so that the reader can name the line."""

    def __init__(self, path: tuple[str | int, ...], message: str, hint: str = "") -> None:
        super().__init__(message)
        self.path = path
        self.message = message
        self.hint = hint


def build(cls: type[T], table: Any, path: tuple[str | int, ...] = ()) -> T:
    """An instance of the dataclass `cls` from a TOML table; absent keys take their defaults.

    Raises:
        Wrong: an unknown key, a missing required key, a wrong type, or a value refused by `cls`.
    """
    if not isinstance(table, Mapping):
        raise Wrong(path, f"expected a table, got {kind_of(table)}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    _refuse_unknown(table, known, path)
    _refuse_missing(table, known, path)
    values = {key: convert(hints[key], value, (*path, key)) for key, value in table.items()}
    try:
        return cls(**values)
    except BadConfig as error:
        where = (*path, error.where) if error.where else path
        raise Wrong(where, error.message, error.hint) from error


def convert(hint: Any, value: Any, path: tuple[str | int, ...]) -> Any:
    """`value` as the type `hint`, or Wrong saying what was expected."""
    origin, args = get_origin(hint), get_args(hint)
    if dataclasses.is_dataclass(hint):
        return build(typing.cast(type, hint), value, path)
    if origin in (types.UnionType, typing.Union):
        if value == "":  # TOML has no null; an empty string says "none"
            return None
        return convert(next(arg for arg in args if arg is not type(None)), value, path)
    if origin is Literal and value in args:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(convert(args[0], item, (*path, i)) for i, item in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise Wrong(path, f"expected {expected(hint)}, got {kind_of(value)}")


def expected(hint: Any) -> str:
    """What a person should write for this type."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return expected(next(arg for arg in args if arg is not type(None)))
    if origin is Literal:
        return "one of " + ", ".join(f'"{arg}"' for arg in args)
    if origin is tuple:
        return f"a list of which each is {expected(args[0])}"
    if dataclasses.is_dataclass(hint):
        return "a table"
    names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
    if hint in (*names, Path):
        return names.get(hint, "a path as a string")
    raise TypeError(f"settings cannot hold {hint}")


def kind_of(value: Any) -> str:
    """A value as an error message shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'the string "{value[:60]}"'
    if isinstance(value, int | float):
        return f"the number {value}"
    names: dict[type, str] = {list: "a list", dict: "a table"}
    return names.get(type(value), f"a {type(value).__name__}")


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """The hint for an unknown word: the closest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f'Did you mean "{close[0]}"?' if close else f"Known: {', '.join(names)}"


def _refuse_unknown(
    table: Mapping[str, Any], known: Mapping[str, Any], path: tuple[str | int, ...]
) -> None:
    for key in table:
        if key not in known:
            raise Wrong((*path, key), "unknown key", nearest(key, known))


def _refuse_missing(
    table: Mapping[str, Any],
    known: Mapping[str, dataclasses.Field[Any]],
    path: tuple[str | int, ...],
) -> None:
    for name, item in known.items():
        optional = (
            item.default is not dataclasses.MISSING
            or item.default_factory is not dataclasses.MISSING
        )
        if name not in table and not optional:
            raise Wrong(path, f'the key "{name}" is missing')
