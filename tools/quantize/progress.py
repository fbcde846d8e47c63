"""What a person sees while it works: bars on a terminal, a line for each step elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Self

from tools.quantize.family import Progress


class Display:
    """Steps on standard error; standard output is left to the report."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._bars: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = self._stack.enter_context(_bars())
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def say(self, text: str) -> None:
        """One line that stays."""
        if self._bars is not None:
            self._bars.console.print(text, highlight=False)
        else:
            print(text, file=sys.stderr, flush=True)

    @contextmanager
    def step(self, title: str) -> Iterator[Progress]:
        """A step; yields what tells how far it is."""
        if self._bars is None:
            self.say(title)
            yield lambda _text, _share: None
            return
        task = self._bars.add_task(title, total=1.0)
        try:
            yield lambda _text, share: self._bars.update(task, completed=share)
        finally:
            self._bars.update(task, completed=1.0)
            self._bars.remove_task(task)


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
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
