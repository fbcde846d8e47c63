"""What a summary of a stream says, as Sparkplug metrics. Pure.

A stream's metrics are the same in its birth and in all that follows, as Sparkplug demands; a figure
that a stretch does not have is null.
"""

from datetime import datetime

import msgspec
from msgspec.structs import astuple

from agent.sync.sparkplug.payload import DataType, Metric, Value


class _Score(msgspec.Struct):
    min: float
    mean: float
    max: float


class Summary(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """Telemetry as the pipelines write it."""

    id: str
    stream: str
    model: str
    start: datetime
    end: datetime
    phase: str
    progress: float
    windows: int
    rows: int
    readings: int
    score: _Score | None = None
    dropped: dict[str, int] = {}


_decoder = msgspec.json.Decoder(Summary)


def read_summary(payload: bytes) -> Summary | None:
    """The summary in a telemetry message; None when it holds something else."""
    try:
        return _decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def metrics_of(summary: Summary, *, historical: bool = False) -> list[Metric]:
    """All metrics of a stream, at the time of the stretch's last row."""
    low, mean, high = astuple(summary.score) if summary.score else (None, None, None)
    at = _milliseconds(summary.end)
    values: list[tuple[str, DataType, Value]] = [
        ("model", DataType.STRING, summary.model),
        ("phase", DataType.STRING, summary.phase),
        ("progress", DataType.DOUBLE, summary.progress),
        ("from", DataType.DATETIME, _milliseconds(summary.start)),
        ("score/min", DataType.DOUBLE, low),
        ("score/mean", DataType.DOUBLE, mean),
        ("score/max", DataType.DOUBLE, high),
        ("windows", DataType.UINT64, summary.windows),
        ("rows", DataType.UINT64, summary.rows),
        ("readings", DataType.UINT64, summary.readings),
        ("dropped", DataType.UINT64, sum(summary.dropped.values())),
    ]
    return [Metric(name, kind, value, at, historical) for name, kind, value in values]


def _milliseconds(moment: datetime) -> int:
    return max(0, round(moment.timestamp() * 1000))
