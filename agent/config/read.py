"""Read the configuration file and the environment; refuse with line, key, expectation and hint."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agent.config.build import Wrong, build, nearest
from agent.config.lines import locate
from agent.config.settings import ENVIRONMENT_TABLES, Config
from agent.errors import BadConfig

PREFIX = "EDGE_AGENT_"
SEPARATOR = "__"
MAX_BYTES = 1 << 20  # bytes; a file over this is not a configuration


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration in `path`, overridden by the environment.

    Raises:
        BadConfig: the file cannot be read, is no TOML, or says something unknown or wrong.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise BadConfig(
            f"cannot be read: {error.strerror}",
            where=str(path),
            hint="edge-agent init DIRECTORY writes a commented one",
        ) from error
    if len(data) > MAX_BYTES:
        raise BadConfig(f"is larger than {MAX_BYTES} bytes", where=str(path))
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise BadConfig(f"is not UTF-8 text (byte {error.start})", where=str(path)) from error
    return parse(text, where=str(path), environ=environ, base=path.parent)


def parse(
    text: str,
    *,
    where: str = "edge-agent.toml",
    environ: Mapping[str, str] | None = None,
    base: Path = Path(),
) -> Config:
    """The configuration in `text`; relative paths in it are relative to `base`.

    Raises:
        BadConfig: as `load`.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"is not valid TOML: {error}", where=where) from error
    overrides = _overrides(environ or {})
    for (section, key), (_, value) in overrides.items():
        _section(table, section)[key] = value
    try:
        return build(Config, table).anchored(base)
    except Wrong as wrong:
        raise _explain(wrong, text, where, overrides) from wrong


def _section(table: dict[str, Any], name: str) -> dict[str, Any]:
    section = table.setdefault(name, {})
    # A section of the wrong kind is refused by `build`, with its line; leave it as it is.
    return section if isinstance(section, dict) else {}


def _overrides(environ: Mapping[str, str]) -> dict[tuple[str, str], tuple[str, Any]]:
    """(table, key) -> (variable, value) for every variable that is meant for us."""
    found = {}
    for variable, text in sorted(environ.items()):
        section, separator, key = variable.removeprefix(PREFIX).lower().partition(SEPARATOR)
        if not variable.startswith(PREFIX) or not separator:
            continue
        if section not in ENVIRONMENT_TABLES:
            raise BadConfig(
                f'there is no table "{section}" that the environment can set',
                where=f"environment variable {variable}",
                hint=nearest(section, ENVIRONMENT_TABLES),
            )
        found[section, key] = (variable, _value(text))
    return found


def _value(text: str) -> Any:
    """A TOML value where the text is one (true, 12, ["a"]), otherwise the text as it stands."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _explain(
    wrong: Wrong,
    text: str,
    where: str,
    overrides: Mapping[tuple[str, str], tuple[str, Any]],
) -> BadConfig:
    variable = next((v for key, (v, _) in overrides.items() if key == wrong.path[:2]), None)
    if variable:
        place = f"environment variable {variable}"
    else:
        line = locate(text, wrong.path)
        place = f"{where}:{line}" if line else where
    name = _dotted(wrong.path)
    return BadConfig(
        f"{name}: {wrong.message}" if name else wrong.message, where=place, hint=wrong.hint
    )


def _dotted(path: tuple[str | int, ...]) -> str:
    """``("source", 1, "broker")`` as ``source[2].broker``: people count from one."""
    text = ""
    for part in path:
        text += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if text else part
    return text
