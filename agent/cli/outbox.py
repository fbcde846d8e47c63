"""`edge-agent outbox`: what the device still owes the cloud."""

import dataclasses
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import config_option, emit_json, emit_table, find_config, json_option

if TYPE_CHECKING:
    from agent.store.inspection import Look
    from agent.types import Message


@click.command()
@click.option("--limit", default=10, type=click.IntRange(0, 1000), help="Messages to show.")
@config_option
@json_option
def outbox(config_path: Path | None, limit: int, as_json: bool) -> None:
    """Show the account of the outbox and the messages that go next.

    Reads the database of the device; the daemon may be running or not.
    """
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
