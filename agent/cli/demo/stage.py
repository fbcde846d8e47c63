"""Where a demo is shown: on a terminal, as plain lines, or nowhere (for --json)."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from agent.cli.demo.scene import Scene
from agent.cli.demo.summary import clock, drivers

LINE_EVERY_S = 5.0  # a line of progress, seconds


class Stage(Protocol):
    """What the scenario needs of whoever looks at it."""

    def show(self, scene: Scene) -> None:
        """The state of things, several times a second."""


class Silence:
    """Nobody looks."""

    def show(self, scene: Scene) -> None:
        """Nothing to do."""


class Lines:
    """A line for each thing that happens, for logs and pipes."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._narration = ""
        self._warnings = 0
        self._due = -math.inf

    def show(self, scene: Scene) -> None:
        """Say what is new since the last call."""
        for warning in scene.warnings[self._warnings :]:
            self._write(
                f"{stamp(scene)}  WARNING at {clock(warning.time)}: {warning.score:.1f} x the "
                f"threshold, {drivers(warning)}"
            )
        self._warnings = len(scene.warnings)
        if scene.narration != self._narration:
            self._narration = scene.narration
            if scene.warning is None or drivers(scene.warning) not in scene.narration:
                self._write(f"{stamp(scene)}  {scene.narration}")
        if scene.rows_sent and scene.elapsed_s >= self._due:
            self._due = scene.elapsed_s + LINE_EVERY_S
            self._write(f"{stamp(scene)}  {progress(scene)}")


def stamp(scene: Scene) -> str:
    """Time since the start, as a line begins."""
    return f"{int(scene.elapsed_s) // 60:02d}:{int(scene.elapsed_s) % 60:02d}"


def progress(scene: Scene) -> str:
    """The state of things in one line."""
    score = "" if math.isnan(scene.score) else f", score {scene.score:.2f}"
    return (
        f"{scene.position:4.0%}  {scene.phase}{score}; {scene.readings_per_s:,.0f} readings/s; "
        f"{scene.outbox.queued} waiting, {scene.received.messages} at the cloud; "
        f"broker {'connected' if scene.link_up else 'away'}"
    )


@contextmanager
def stage(*, terminal: bool, write: Callable[[str], None], picture: Path | None) -> Iterator[Stage]:
    """The place to show a demo on: the whole terminal, or lines.

    Args:
        terminal: standard output is a terminal that can be drawn on.
        write: takes a line of text.
        picture: where to save the most telling screen as SVG; draws without a terminal, too.
    """
    if not terminal and picture is None:
        yield Lines(write)
        return
    from agent.cli.demo.painter import Painter

    with Painter(picture, live=terminal) as painter:
        yield painter
