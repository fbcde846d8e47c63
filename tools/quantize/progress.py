"""What a person sees while it works: bars on a terminal, lines elsewhere."""

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from tools.quantize.family import Progress

PAUSE = 5.0  # seconds between two lines of one step, at least


def part(progress: Progress, begin: float, end: float) -> Progress:
    """What a piece of a step tells, as its share of the step: 0 is `begin`, 1 is `end`."""
    return lambda text, share: progress(text, begin + share * (end - begin))


class Display:
    """Steps on standard error; standard output is left to the report.

    Args:
        pause: seconds between two lines of one step where there is no terminal, at least.
    """

    def __init__(self, pause: float = PAUSE) -> None:
        self._stack = ExitStack()
        self._bars: Any = None
        self._pause = pause

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = self._stack.enter_context(_bars())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """A step; yields what tells how far it is."""
        if self._bars is None:
            self.say(title)
            yield self._lines(title)
            return
        task = self._bars.add_task(title, total=1.0, doing="")
        try:
            yield lambda text, share: self._bars.update(task, completed=share, doing=text)
        finally:
            self._bars.update(task, completed=1.0)
            self._bars.remove_task(task)

    def _lines(self, title: str) -> Progress:
        """A line when another tenth is done, and some time has passed since the last."""
        stream, told, since = sys.stderr, 0, time.monotonic()  # libraries are kept off this one

        def progress(text: str, share: float) -> None:
            nonlocal told, since
            tenth = int(share * 10 + 1e-6)
            if tenth > told and time.monotonic() - since >= self._pause:
                print(f"{title}: {tenth}0 %, {text}", file=stream, flush=True)
                told, since = tenth, time.monotonic()

        return progress


def _bars() -> Any:
    """Rich's bars where it is installed (the extra `workstation`), else nothing."""
    from contextlib import nullcontext

    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    except ImportError:
        return nullcontext()
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[doing]}", style="dim", markup=False),
        # The stream as it is now: while a library works, `sys.stderr` is one that nobody sees.
        console=Console(file=sys.stderr),
        transient=True,
    )
