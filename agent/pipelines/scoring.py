"""A round of batches in the worker thread, and telling those who handed readings in."""

import logging
from collections.abc import Sequence

from agent.errors import AgentError, EngineFailed
from agent.pipelines.entries import Entry, Receipt
from agent.pipelines.stream import Stream, Work

_log = logging.getLogger(__name__)


def score(
    batches: Sequence[tuple[Stream, list[Entry], bool]],
) -> list[tuple[Stream, list[Entry], Work]]:
    """In the worker thread."""
    return [
        (stream, entries, _process(stream, entries, flush)) for stream, entries, flush in batches
    ]


def _process(stream: Stream, entries: list[Entry], flush: bool) -> Work:
    try:
        return stream.process(entries, flush=flush)
    except Exception as error:  # noqa: BLE001 (one stream must not end the others)
        stream.undo()
        return Work(results=[explained(error, stream.name)] * len(entries), state=stream.snapshot())


def explained(error: Exception, stream: str) -> AgentError:
    """The error that is told; one that is not an AgentError is a mistake of ours, and logged whole."""
    if isinstance(error, AgentError):
        return error
    _log.error("a batch failed", exc_info=error, extra={"stream": stream})
    return EngineFailed(f"these readings could not be scored: {type(error).__name__}", where=stream)


def tell(entries: Sequence[Entry], results: Sequence[Receipt | AgentError]) -> None:
    """In the event loop."""
    for entry, result in zip(entries, results, strict=True):
        try:
            entry.done(result)
        except Exception:  # noqa: BLE001 (one source must not keep the others waiting)
            _log.exception("a source failed to hear of its readings")
