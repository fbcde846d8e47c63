"""The commented configuration that `edge-agent init` writes.

Made from the settings classes themselves: each key's comment is its line in the class's
"Attributes:" section and its value the class's default, so that file, documentation and code cannot
drift apart.
"""

import dataclasses
import inspect
import re
import textwrap
import typing
from pathlib import Path
from typing import Any

_ATTRIBUTE = re.compile(r"^(\w+): (.*)$")


def describe(cls: type) -> dict[str, str]:
    """Attribute name -> its text in the class's docstring."""
    section = (inspect.getdoc(cls) or "").partition("Attributes:\n")[2]
    texts: dict[str, str] = {}
    name = ""
    for line in textwrap.dedent(section).splitlines():
        if match := _ATTRIBUTE.match(line):
            name = match[1]
            texts[name] = match[2]
        elif line.startswith(" ") and name:
            texts[name] += " " + line.strip()
        elif line.strip():
            break
    return texts


def table(header: str, cls: type, chosen: dict[str, Any], *, commented: bool = False) -> str:
    """One table of the file: every key with its comment; keys left at their default commented out.

    Args:
        header: for example ``[api]`` or ``[[pipeline]]``.
        cls: the settings class behind it.
        chosen: keys that are written out, with their values.
        commented: comment the header out as well; for tables that a plain device does not need.
    """
    summary = (inspect.getdoc(cls) or "").partition("\n")[0]
    lines = [f"# {summary}", f"# {header}" if commented else header]
    texts = describe(cls)
    for item in dataclasses.fields(cls):
        lines += textwrap.wrap(
            texts.get(item.name, ""), 96, initial_indent="# ", subsequent_indent="# "
        )
        if item.name in chosen and not commented:
            lines.append(f"{item.name} = {literal(chosen[item.name])}")
        else:
            lines.append(f"#{item.name} = {literal(chosen.get(item.name, _default(item)))}")
    return "\n".join(lines) + "\n"


def literal(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if value is None:
        return '""'
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _default(item: "dataclasses.Field[Any]") -> Any:
    if item.default is not dataclasses.MISSING:
        return item.default
    if item.default_factory is not dataclasses.MISSING:
        return item.default_factory()
    return typing.cast(Any, Path() if item.type is Path else "")
