"""`edge-agent replay FILE`: a recording, or standard input, into a running daemon."""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import emit_json, find_socket, json_option, socket_option
from agent.errors import BadReading, TooMany

if TYPE_CHECKING:
    from agent.api.client import Client
    from agent.types import Rows

MAX_TRIES = 60  # of one batch that the daemon has no room for


@click.command()
@click.argument("recording", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--stream", default="", help="Name of the stream.  [default: the file's name]")
@click.option(
    "--speed",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="FACTOR",
    help="Seconds of the recording in one second; 0: as fast as it goes.",
)
@click.option("--time-column", default="", help="Column with the time.  [default: guessed]")
@click.option("--label-column", multiple=True, help="Column that is no reading; may be repeated.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    metavar="SECONDS",
    help="Between rows of a recording without a time column; 0: it must have one.",
)
@socket_option
@json_option
def replay(
    recording: Path,
    stream: str,
    speed: float,
    time_column: str,
    label_column: tuple[str, ...],
    interval: float,
    socket_path: Path | None,
    config_path: Path | None,
    as_json: bool,
) -> None:
    """Send RECORDING (delimited text; - for standard input) to a running daemon.

    Standard input may also be JSON rows, one a line. Label columns are never sent. Every batch is on
    the daemon's disk before the next one goes.
    """
    from agent.api.client import Client
    from agent.pipelines.tables import Choices

    sender = Sender(Client(find_socket(socket_path, config_path)))
    if str(recording) == "-":
        sender.lines(stream or "stdin")
    else:
        choices = Choices(time_column, label_column, interval)
        asyncio.run(sender.file(recording, stream, choices, speed))
    emit_json(sender.totals()) if as_json else click.echo(sender.sentence())


class Sender:
    """Posts rows and adds up what became of them."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._counts: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    async def file(self, path: Path, stream: str, choices: Any, speed: float) -> None:
        """Send a recording, paced by its own time."""
        from agent.clock import SystemClock
        from agent.pipelines.sources.replay import open_recording, paced

        size = 500 if speed == 0 else 1
        with open_recording(path, stream=stream, choices=choices, start=time.time()) as recording:
            async for part in paced(recording.parts(size), speed=speed, clock=SystemClock()):
                self.send(part.rows)

    def lines(self, stream: str) -> None:
        """Send standard input as it arrives; a line that is not understood is reported and passed."""
        for rows in _stdin(stream, self._counts):
            self.send(rows)

    def send(self, rows: "Rows") -> None:
        """Send one batch; waits when the daemon has no room for it.

        Raises:
            TooMany: there was still no room after `MAX_TRIES`.
        """
        from agent.pipelines.encode import encode_columns

        answer = self._post(encode_columns(rows))
        self._counts["rows"] += len(rows)
        for key in ("accepted", "windows", "warnings"):
            self._counts[key] += answer[key]
        self._dropped.update(answer["dropped"])

    def totals(self) -> dict[str, Any]:
        """What was sent and what became of it."""
        names = ("rows", "accepted", "windows", "warnings", "refused_lines")
        return {**{name: self._counts[name] for name in names}, "dropped": dict(self._dropped)}

    def sentence(self) -> str:
        """The totals for a person."""
        counts = self._counts
        text = (
            f"{counts['rows']} rows sent, {counts['accepted']} accepted, "
            f"{counts['windows']} windows scored, {counts['warnings']} warnings."
        )
        if self._dropped:
            text += " Dropped: " + ", ".join(f"{n} {why}" for why, n in self._dropped.items()) + "."
        return text

    def _post(self, body: bytes) -> dict[str, Any]:
        for _ in range(MAX_TRIES):
            try:
                answer: dict[str, Any] = self._client.post(
                    "/api/readings", body, content_type="application/json"
                )
                return answer
            except TooMany as error:
                pause_s = error.retry_after_s
                time.sleep(pause_s)
        raise TooMany("the daemon has had no room for too long", where="/api/readings")


def _stdin(stream: str, counts: Counter[str]) -> Iterator["Rows"]:
    from agent.pipelines.sources.stdin import read_rows

    def refused(error: BadReading) -> None:
        counts["refused_lines"] += 1
        click.echo(f"edge-agent: {error} [{error.code}]", err=True)

    return read_rows(sys.stdin.fileno(), stream, wall=time.time, refused=refused)
