"""`edge-agent outbox`: what the device still owes the cloud."""

import contextlib
import dataclasses
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

import click

from agent.cli.options import config_option, emit_json, emit_table, find_config, json_option
from agent.errors import NotFound

MAX_SHOWN_BYTES = 1 << 24  # payloads read to show their sizes


@click.command()
@click.option("--limit", default=10, type=click.IntRange(0, 1000), help="Messages to show.")
@config_option
@json_option
def outbox(config_path: Path | None, limit: int, as_json: bool) -> None:
    """Show the account of the outbox and the messages that go next.

    Reads the database of the device; the daemon may be running or not.
    """
    from agent.config.read import load

    account, waiting = examine(load(find_config(config_path), os.environ).device.database, limit)
    if as_json:
        emit_json({"account": account, "next": waiting})
        return
    headers = ("CLASS", *next(iter(account.values())))
    emit_table(headers, [(kind, *counts.values()) for kind, counts in account.items()])
    if waiting:
        click.echo()
        rows = [(m["class"], m["age_s"], m["bytes"], m["topic"]) for m in waiting]
        emit_table(("NEXT", "AGE S", "BYTES", "TOPIC"), rows)


def examine(database: Path, limit: int) -> tuple[dict[str, dict[str, int]], list[dict[str, Any]]]:
    """The account by class and the next messages, read without disturbing a daemon.

    Raises:
        NotFound: the device has no database yet.
    """
    from agent.store.outbox import CLASSES, read_counts, read_pending

    if not database.exists():
        raise NotFound("the device has no database yet", where=str(database), hint="edge-agent run")
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        counts = read_counts(connection)
        account = {str(kind): dataclasses.asdict(counts.by_class[kind]) for kind in CLASSES}
        queued = [
            row
            for kind in CLASSES
            for row in read_pending(connection, kind, 0, limit, MAX_SHOWN_BYTES)
        ]
    return account, [_plain(row.message) for row in queued[:limit]]


def _plain(message: Any) -> dict[str, Any]:
    return {
        "id": message.id,
        "class": message.kind,
        "topic": message.topic,
        "age_s": round(time.time() - message.created),
        "bytes": len(message.payload),
    }
