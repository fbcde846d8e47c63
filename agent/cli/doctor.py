"""`edge-agent doctor`: what is missing on this machine, and the command that mends it."""

import os
import platform
import shutil
import sqlite3
import struct
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from agent.cli.options import (
    config_option,
    emit_json,
    existing_config,
    find_config,
    json_option,
)
from agent.errors import AgentError, BadConfig

if TYPE_CHECKING:
    from agent.config.settings import Config

MIN_FREE_BYTES = 256 * 2**20  # bytes; below this an update or a full outbox may not fit
EARLIEST_SANE_TIME = 1_767_225_600  # 2026-01-01, seconds since the epoch: older means no clock
MIN_SQLITE = (3, 37, 0)  # STRICT tables

State = Literal["ok", "warn", "fail"]
MARKS: dict[State, str] = {"ok": "ok  ", "warn": "warn", "fail": "FAIL"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: what.
        state: ok, warn (works, with a loss) or fail (the daemon will not run).
        detail: what was found.
        mend: the command or step that puts it right; empty when all is well.
    """

    name: str
    state: State
    detail: str
    mend: str = ""


@click.command()
@config_option
@json_option
@click.pass_context
def doctor(ctx: click.Context, config_path: Path | None, as_json: bool) -> None:
    """Look at Python, engines, configuration, storage, clock, socket and broker."""
    checks = list(examine(config_path))
    if as_json:
        emit_json([asdict(check) for check in checks])
    else:
        for check in checks:
            click.echo(f"{MARKS[check.state]}  {check.name}: {check.detail}")
            if check.mend:
                click.echo(f"      -> {check.mend}")
    if any(check.state == "fail" for check in checks):
        ctx.exit(1)


def examine(config_path: Path | None) -> Iterator[Check]:
    """Every check, in the order in which a newcomer would mend them."""
    yield check_python()
    yield check_sqlite()
    yield from check_engines()
    yield check_clock(time.time())
    config, check = check_config(config_path)
    yield check
    if config is not None:
        yield check_state_directory(config.device.state)
        yield from check_audit(config.device.database)
        yield check_root(config.device.models)
        yield check_daemon(config.api.socket)
        yield from check_broker(config)


def check_python() -> Check:
    found = f"{platform.python_version()} on {platform.machine()}, {struct.calcsize('P') * 8} bit"
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        return Check("python", "warn", found, "Use Python 3.11, 3.12 or 3.13")
    if sys.maxsize < 2**32:
        return Check(
            "python", "fail", found, "Use a 64-bit system: the engines have no 32-bit builds"
        )
    return Check("python", "ok", found)


def check_sqlite() -> Check:
    found = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < MIN_SQLITE:
        return Check("sqlite", "fail", found, "Use a Python with SQLite 3.37 or later")
    return Check("sqlite", "ok", found)


def check_engines() -> Iterator[Check]:
    from agent.engines import catalog

    for name, status in catalog.available().items():
        if status.installed:
            yield Check(f"engine {name}", "ok", status.detail)
        else:
            yield Check(f"engine {name}", "warn", status.detail, status.mend)


def check_clock(now: float) -> Check:
    text = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < EARLIEST_SANE_TIME:
        return Check(
            "clock", "warn", text, "Set the clock or start NTP: sudo timedatectl set-ntp true"
        )
    return Check("clock", "ok", text)


def check_config(config_path: Path | None) -> "tuple[Config | None, Check]":
    from agent.config.read import load

    try:
        path = find_config(config_path)
        return load(path, os.environ), Check("configuration", "ok", str(path))
    except BadConfig as error:
        state: State = "fail" if config_path or existing_config() else "warn"
        detail = f"{error.where}: {error.message}" if error.where else error.message
        return None, Check("configuration", state, detail, error.hint)


def check_state_directory(state: Path) -> Check:
    name = "state directory"
    existing = next((path for path in (state, *state.parents) if path.exists()), Path("/"))
    if not os.access(existing, os.W_OK):
        mend = f"sudo install -d -o {os.environ.get('USER', 'edge-agent')} {state}"
        return Check(name, "fail", f"{state} cannot be written", mend)
    free = shutil.disk_usage(existing).free
    found = f"{state}, {free // 2**20} MiB free"
    if free < MIN_FREE_BYTES:
        return Check(name, "warn", found, f"Free some space on the disk that holds {existing}")
    return Check(name, "ok", found)


def check_audit(database: Path) -> Iterator[Check]:
    """The chain of the audit log; nothing where there is no log yet."""
    from agent.store.inspection import audit_verdict

    try:
        verdict = audit_verdict(database)
    except AgentError:
        return
    if verdict.broken is None:
        yield Check("audit log", "ok", f"{verdict.rows} rows, each as it was written")
    else:
        mend = "Compare it with a backup; somebody, or a damaged disk, changed it"
        yield Check("audit log", "warn", f"row {verdict.broken} is not as it was written", mend)


def check_root(models: Path) -> Check:
    from agent.clock import SystemClock
    from agent.registry import Registry

    registry = Registry(models, clock=SystemClock())
    if not registry.provisioned:
        mend = "edge-agent models provision ROOT.json (from: edge-fleet init)"
        return Check("trust root", "warn", "none: this device can install no model yet", mend)
    return Check("trust root", "ok", f"{len(registry.list())} installed model versions")


def check_daemon(socket_path: Path) -> Check:
    from agent.api.client import Client

    try:
        Client(socket_path).get_json("/healthz")
    except AgentError as error:
        return Check("daemon", "warn", error.message, error.hint or "edge-agent run")
    return Check("daemon", "ok", f"answers on {socket_path}")


def check_broker(config: "Config") -> Iterator[Check]:
    for url in dict.fromkeys(config.brokers()):
        yield _reach(url, _connect)


def _reach(url: str, connect: Callable[[str], None]) -> Check:
    try:
        connect(url)
    except OSError as error:
        detail = f"{url} does not answer: {error.strerror or error}"
        return Check(
            "broker", "warn", detail, "Check the address and the network; messages are kept"
        )
    return Check("broker", "ok", f"{url} accepts connections")


def _connect(url: str) -> None:
    import socket
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    port = parts.port or (8883 if parts.scheme == "mqtts" else 1883)
    socket.create_connection((parts.hostname or "localhost", port), timeout=3).close()
