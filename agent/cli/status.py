"""`edge-agent status`: what a running daemon does."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import emit_json, emit_table, find_socket, json_option, socket_option
from agent.errors import Unavailable

if TYPE_CHECKING:
    from agent.api.client import Client

WAIT_S = 30  # for a daemon that is starting, unless said otherwise
LOOK_S = 0.05  # between two looks while it starts


@click.command()
@click.option("--watch", "-w", "watched", is_flag=True, help="Go on until Ctrl-C.")
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(0.1, 3600),
    default=1,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks of --watch.",
)
@click.option(
    "--wait",
    "wait_s",
    is_flag=False,
    flag_value=WAIT_S,
    default=None,
    type=click.FloatRange(0, 3600),
    metavar="[SECONDS]",
    help=f"Wait for a daemon that is starting, at most so long.  [default: {WAIT_S} seconds]",
)
@socket_option
@json_option
def status(
    *,
    watched: bool,
    interval_s: float,
    wait_s: float | None,
    socket_path: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Show models, streams, warnings, outbox and link of a running daemon."""
    from agent.api.client import Client

    place = find_socket(socket_path, config_path)
    client = Client(place)
    if wait_s is not None:
        until_ready(client, wait_s)
    if watched:
        from agent.cli.watch import watch

        watch(place, interval_s)
        return
    state = client.get_json("/api/status")
    emit_json(state) if as_json else print_status(state)


def until_ready(client: "Client", seconds: float) -> None:
    """Return as soon as the daemon is ready.

    Raises:
        Unavailable: it was not by then; the daemon's own reasons, or that none answers.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            client.get_json("/readyz")
        except Unavailable:
            if time.monotonic() >= deadline:
                raise
            time.sleep(LOOK_S)
        else:
            return


def print_status(state: dict[str, Any]) -> None:
    """The status for a person: what stands still first, then the tables."""
    head = "ready" if state["ready"] else "NOT READY: " + "; ".join(state["reasons"])
    machine = state["machine"]
    click.echo(f"{state['device']}: {head}")
    click.echo(
        f"edge-agent {state['version']}, up {_duration(state['uptime_s'])}, "
        f"{machine['memory_mib']:.0f} MiB, {_link(state['link'])}"
    )
    if state["models"]:
        click.echo()
        emit_table(("MODEL", "VERSION", "STATE", "REQUESTS", "P50 MS", "P99 MS"), _models(state))
    if state["streams"]:
        click.echo()
        emit_table(
            ("STREAM", "PHASE", "SCORE", "WARNING", "READINGS", "DRIVEN BY"), _streams(state)
        )
    if state["outbox"]:
        click.echo()
        names = ("queued", "enqueued", "delivered", "evicted", "expired", "thinned", "damaged")
        rows = [(kind, *(c[n] for n in names)) for kind, c in state["outbox"]["classes"].items()]
        emit_table(("OUTBOX", *(name.upper() for name in names)), rows)


def _link(link: dict[str, Any] | None) -> str:
    if link is None:
        return "no broker configured"
    if link["connected"]:
        return f"connected to {link['broker']} by MQTT {link['protocol']}"
    return f"broker {link['state']}" + (f" ({link['reason']})" if link["reason"] else "")


def _models(state: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            model["name"],
            model["version"],
            model["state"] + (f" ({model['reason']})" if model["reason"] else ""),
            model["requests"],
            _number(model["p50_ms"]),
            _number(model["p99_ms"]),
        )
        for model in state["models"]
    ]


def _streams(state: dict[str, Any]) -> list[tuple[object, ...]]:
    return [
        (
            stream["stream"],
            stream["phase"] + ("" if stream["progress"] >= 1 else f" {stream['progress']:.0%}"),
            _number(stream["score"]),
            "yes" if stream["warning"] else "",
            stream["readings"],
            _drivers(stream) if stream["warning"] else "",
        )
        for stream in state["streams"]
    ]


def _drivers(stream: dict[str, Any]) -> str:
    top = sorted(stream["shares"].items(), key=lambda item: -item[1])[:3]
    return ", ".join(f"{name} {share:.0%}" for name, share in top)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _duration(seconds: float) -> str:
    minutes, hours, days = seconds // 60 % 60, seconds // 3600 % 24, seconds // 86_400
    if days:
        return f"{days:.0f} d {hours:.0f} h"
    return (
        f"{hours:.0f} h {minutes:.0f} min" if hours else f"{minutes:.0f} min {seconds % 60:.0f} s"
    )
