"""Log lines for a journal: one line each, text or JSON, and never a flood.

Set up once by the composition root; rooms use `logging.getLogger(__name__)` and pass details through
`extra={...}`, which become fields.
"""

import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Literal, TextIO

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

BURST = 10  # lines of the same call site let through in one period
PERIOD_S = 60.0  # seconds
KEPT_LINES = 500  # of the newest, for whoever asks the device
MAX_LINE = 2000  # characters of a line that is kept

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def configure(level: LogLevel, style: LogFormat, stream: TextIO | None = None) -> None:
    """Send every log line of the process to `stream` (standard error by default)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(FloodGate())
    handler.addFilter(_RECENT)  # after the gate: a flood does not push out what led to it
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


def set_level(level: LogLevel) -> None:
    """Change the least important line that is still written."""
    logging.getLogger().setLevel(level.upper())


def recent(count: int) -> list[str]:
    """The newest lines of this process, oldest first."""
    return _RECENT.lines(count)


def details(record: logging.LogRecord) -> dict[str, Any]:
    """What the call site passed through `extra`."""
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class Recent(logging.Filter):
    """Keeps the newest records that pass, as text."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: deque[str] = deque(maxlen=KEPT_LINES)
        self._formatter = TextFormatter()

    def filter(self, record: logging.LogRecord) -> bool:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created))
        self._kept.append(f"{moment} {self._formatter.format(record)}"[:MAX_LINE])
        return True

    def lines(self, count: int) -> list[str]:
        """So many of the newest, oldest first."""
        return list(self._kept)[-count:] if count > 0 else []


class TextFormatter(logging.Formatter):
    """``warning sync.link: connection lost broker=… retry_s=…``; the journal adds the time."""

    def format(self, record: logging.LogRecord) -> str:
        name = record.name.removeprefix("agent.")
        fields = "".join(f" {key}={value}" for key, value in details(record).items())
        line = f"{record.levelname.lower()} {name}: {record.getMessage()}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **details(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class FloodGate(logging.Filter):
    """Lets a call site speak `BURST` times in `PERIOD_S`, then says once how many were held back.

    A broker that is away for a week, or a sensor that sends rubbish ten times a second, must not
    fill the journal. The table of call sites is bounded by the code itself.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._sites: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        site = (record.pathname, record.lineno)
        now = self._monotonic()
        began, count = self._sites.get(site, (now, 0))
        if now - began >= PERIOD_S:
            held = count - BURST
            if held > 0:
                record.held_back = held
            began, count = now, 0
        self._sites[site] = (began, count + 1)
        return count < BURST


_RECENT = Recent()
