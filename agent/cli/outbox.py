"""`edge-agent outbox`: what the device still owes the cloud."""

import asyncio
import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import config_option, emit_json, emit_table, find_config, json_option
from agent.errors import BadConfig, NotReachable

if TYPE_CHECKING:
    from agent.app import App
    from agent.config.settings import Config
    from agent.store.inspection import Look
    from agent.types import Message


@click.group(invoke_without_command=True)
@click.option(
    "--limit",
    type=click.IntRange(0, 1000),
    default=10,
    show_default=True,
    help="Messages to show.",
)
@config_option
@json_option
@click.pass_context
def outbox(ctx: click.Context, config_path: Path | None, limit: int, as_json: bool) -> None:
    """Show the account of the outbox and the messages that go next, or drain it.

    Reads the database of the device; the daemon may be running or not.
    """
    ctx.obj = config_path
    if ctx.invoked_subcommand is None:
        _show(config_path, limit, as_json=as_json)


@outbox.command()
@click.option(
    "--seconds",
    type=click.FloatRange(0, 86_400),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="To give up after.",
)
@click.pass_obj
def drain(config_path: Path | None, seconds: float) -> None:
    """Send what waits, while no daemon runs; what is not sent by then stays."""
    from agent.config.read import load

    before, after = asyncio.run(_drain(load(find_config(config_path), os.environ), seconds))
    click.echo(f"{before - after} messages were delivered, {after} are left.")
    if after:
        raise click.exceptions.Exit(1)


async def _drain(config: "Config", seconds: float) -> tuple[int, int]:
    """Messages that waited before and afterwards."""
    from agent.app import App

    if config.sync is None:
        hint = 'Name one in the configuration: brokers = ["mqtts://…"] under [sync]'
        raise BadConfig("no broker is configured", where="sync", hint=hint)
    app = App(config)
    try:
        await app.start_sync()
        before = (await app.outbox.counts()).total.queued
        await _until_empty(app, seconds)
        await app.uplink.close()
        return before, (await app.outbox.counts()).total.queued
    finally:
        await app.stop()


async def _until_empty(app: "App", seconds: float) -> None:
    """Until nothing waits, or the time is over.

    Raises:
        NotReachable: there was no connection at all.
    """
    link = app.link
    assert link is not None
    try:
        async with asyncio.timeout(seconds):
            while not (link.connected and await app.uplink.drained(seconds)):
                await app.clock.sleep(0.05)
    except TimeoutError:
        if not link.connected:
            raise NotReachable(str(link.reason or "no broker answers"), where="sync") from None


def _show(config_path: Path | None, limit: int, *, as_json: bool) -> None:
    from agent.config.read import load
    from agent.store.inspection import look

    seen = look(load(find_config(config_path), os.environ).device.database, peek=limit)
    emit_json(describe(seen)) if as_json else print_look(describe(seen))


def describe(seen: "Look") -> dict[str, Any]:
    """What is in the file, as it is printed for scripts."""
    return {
        "database": str(seen.path),
        "bytes": seen.bytes,
        "schema": seen.schema,
        "tables": {table.name: table.rows for table in seen.tables},
        "set_aside": [str(path) for path in seen.set_aside],
        "account": {
            kind: dataclasses.asdict(counts) for kind, counts in seen.counts.by_class.items()
        },
        "next": [_plain(row.message) for row in seen.next],
    }


def print_look(seen: dict[str, Any]) -> None:
    """The same for a person: the account, what goes next, what is wrong."""
    click.echo(f"{seen['database']}: {seen['bytes'] / 2**20:.1f} MiB, schema {seen['schema']}")
    for path in seen["set_aside"]:
        click.echo(f"damaged and set aside: {path}")
    click.echo()
    headers = ("CLASS", *(name.upper() for name in next(iter(seen["account"].values()))))
    emit_table(headers, [(kind, *counts.values()) for kind, counts in seen["account"].items()])
    if seen["next"]:
        click.echo()
        rows = [(m["class"], m["age_s"], m["bytes"], m["topic"]) for m in seen["next"]]
        emit_table(("NEXT", "AGE S", "BYTES", "TOPIC"), rows)


def _plain(message: "Message") -> dict[str, Any]:
    return {
        "id": message.id,
        "class": message.kind,
        "topic": message.topic,
        "age_s": round(time.time() - message.created),
        "bytes": len(message.payload),
    }
