"""What of a stream outlives the process, and its form on the disk."""

import msgspec

from agent.errors import BadPayload
from agent.pipelines.summary import Summary

#: Version of `Saved`; a state of another version starts the stream afresh.
FORMAT = 1


class Saved(msgspec.Struct):
    """Everything about a stream that outlives the process."""

    model: str
    detector: bytes
    grid: bytes
    seen: bytes
    summary: Summary = msgspec.field(default_factory=Summary)
    phase: str = "learning"
    progress: float = 0.0
    score: float | None = None
    shares: dict[str, float] = {}
    warning: str = ""
    warnings: int = 0
    rows: int = 0
    readings: int = 0
    windows: int = 0
    dropped: dict[str, int] = {}
    last: float | None = None
    format: int = FORMAT


def decode(state: bytes) -> Saved:
    """A state from its bytes. Raises BadPayload."""
    try:
        return msgspec.msgpack.decode(state, type=Saved)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPayload("the stream's state cannot be read") from error
