"""Options that several commands share, and how results are printed."""

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from agent.errors import BadConfig

F = TypeVar("F", bound=Callable[..., Any])

LOCAL_CONFIG = Path("edge-agent.toml")
DEFAULT_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
DEFAULT_SOCKET = Path("/run/edge-agent/agent.sock")

config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="EDGE_AGENT_CONFIG",
    default=None,
    help="The device's configuration.  [default: ./edge-agent.toml, then /etc/edge-agent/edge-agent.toml]",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def find_config(given: Path | None) -> Path:
    """The configuration to use: the given one, ./edge-agent.toml, or the system's.

    Raises:
        BadConfig: none of them exists.
    """
    found = given or existing_config()
    if found is None:
        raise BadConfig(
            "there is no configuration",
            where=f"{LOCAL_CONFIG}, {DEFAULT_CONFIG}",
            hint="Name one with --config, or write one with: edge-agent init DIRECTORY",
        )
    return found


def existing_config() -> Path | None:
    """./edge-agent.toml, or the system's; None where there is neither."""
    return next((path for path in (LOCAL_CONFIG, DEFAULT_CONFIG) if path.exists()), None)


def socket_option(command: F) -> F:
    """``--socket``, and ``--config`` to take the socket's place from."""
    option = click.option(
        "--socket",
        "socket_path",
        type=click.Path(path_type=Path),
        envvar="EDGE_AGENT_SOCKET",
        default=None,
        help="The daemon's socket.  [default: the configuration's]",
    )
    return config_option(option(command))


def find_socket(socket_path: Path | None, config_path: Path | None) -> Path:
    """The daemon's socket: the given one, the configuration's, or the system's.

    Raises:
        BadConfig: the configuration is wrong, so that it cannot say.
    """
    from agent.config.read import load

    if socket_path is not None:
        return socket_path
    found = config_path or existing_config()
    # The system's may be for its daemon's eyes only; its callers know the socket's usual place.
    if found is None or (config_path is None and not os.access(found, os.R_OK)):
        return DEFAULT_SOCKET
    return load(found, os.environ).api.socket


def as_typed(program: str) -> str:
    """How this user calls the command again: by its name if that is on the path, else by its place.

    Args:
        program: how it was called, ``sys.argv[0]``.
    """
    if not os.access(program, os.X_OK):
        return "python -m agent"
    found = shutil.which("edge-agent")
    return "edge-agent" if found and Path(found).samefile(program) else program


def emit_json(value: Any) -> None:
    """One JSON document on standard output."""
    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def emit_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A plain table: aligned columns, two spaces between, nothing else to parse around."""
    cells = [tuple(headers), *(tuple(str(cell) for cell in row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    for row in cells:
        click.echo(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
