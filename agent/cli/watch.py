"""`edge-agent status --watch`: the screen again and again, on any terminal, until Ctrl-C."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from agent.api.client import Client
from agent.cli.live import screen
from agent.errors import Unavailable

# Control sequences that every terminal knows since the VT100; the alternate screen since xterm.
_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_RESIZED = (signal.SIGWINCH,)
_HOME, _CLEAR_LINE, _CLEAR_REST = "\x1b[H", "\x1b[K", "\x1b[J"


def watch(socket_path: Path, interval_s: float) -> None:
    """Show a daemon's status until the user interrupts.

    On a terminal the screen is drawn over and follows its size; elsewhere each look is printed below
    the one before, for logs. A daemon that stops is waited for.
    """
    with closing(Client(socket_path, timeout_s=10.0)) as client, _screen() as show:
        before: dict[str, Any] | None = None
        try:
            while True:
                try:
                    now = client.get_json("/api/status")
                except Unavailable as error:
                    show([f"{error}; trying again"])
                else:
                    show_status(show, now, before or now)
                    before = now
                signal.sigtimedwait(_RESIZED, interval_s)
        except KeyboardInterrupt:
            return


class Show:
    """Puts lines where the user looks."""

    def __init__(self, *, terminal: bool) -> None:
        self._terminal = terminal

    @property
    def size(self) -> tuple[int, int]:
        """Columns and rows; without bounds where nothing is drawn over."""
        if not self._terminal:
            return 10_000, 10_000
        found = os.get_terminal_size(sys.stdout.fileno())  # not COLUMNS, which does not follow
        return found.columns or 80, found.lines or 24

    def __call__(self, lines: list[str]) -> None:
        """Draw the lines, or print them."""
        if self._terminal:
            # Without a line feed after the last line, which would scroll a full screen.
            text = _HOME + (_CLEAR_LINE + "\r\n").join(lines) + _CLEAR_LINE + _CLEAR_REST
        else:
            text = "\n".join([*lines, "", ""])
        sys.stdout.write(text)
        sys.stdout.flush()


def show_status(show: Show, now: dict[str, Any], before: dict[str, Any]) -> None:
    """One look, in the size that the terminal has now."""
    show(screen(now, before, *show.size))


@contextmanager
def _screen() -> Iterator[Show]:
    """A terminal that is drawn over and left as it was found; or plain output."""
    if not sys.stdout.isatty():
        yield Show(terminal=False)
        return
    # Kept back and waited for: a handler that wakes the waiting could come while that holds its lock.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _RESIZED)
    ended = signal.signal(signal.SIGTERM, _interrupt)
    sys.stdout.write(_ENTER)
    try:
        yield Show(terminal=True)
    finally:
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGTERM, ended)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
