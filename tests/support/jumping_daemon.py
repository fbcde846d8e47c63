"""The real daemon with a wall clock that a test can move: `python jumping_daemon.py CONFIG OFFSET`.

The file OFFSET holds the seconds by which the wall clock is wrong. The monotonic clock is the
machine's own, as it is on a device whose time is set.
"""

import asyncio
import os
import sys
import time
from pathlib import Path

from agent import app
from agent.clock import SystemClock
from agent.config.read import load


class JumpingClock(SystemClock):
    """Wrong by what the file says."""

    def __init__(self, offset: Path) -> None:
        self._offset = offset

    def wall(self) -> float:
        return time.time() + float(self._offset.read_text() or 0)


def main() -> None:
    config, offset = Path(sys.argv[1]), Path(sys.argv[2])
    os.environ.update(app.OFFLINE)
    asyncio.run(app._serve(app.App(load(config, {}), clock=JumpingClock(offset))))


if __name__ == "__main__":
    main()
