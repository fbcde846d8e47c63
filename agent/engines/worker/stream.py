"""An answer in pieces, as the daemon reads it."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from agent.engines.worker.lane import Lane
from agent.engines.worker.packets import Packet
from agent.errors import AgentError


class Stream:
    """Iterated over and closed by one thread; cancelled by any."""

    def __init__(
        self, lane: Lane, *, receive: Callable[[], Packet], finish: Callable[[], None]
    ) -> None:
        self._lane = lane
        self._receive = receive
        self._finish = finish
        self._done = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """The next piece.

        Raises:
            WorkerDied: the process has ended.
            TooSlow: no piece came in time; the worker is ended.
            AgentError: whatever the program raised.
        """
        if self._done:
            raise StopIteration
        try:
            packet = self._receive()
        except AgentError:
            self._end()
            raise
        if packet.kind == "piece":
            return packet.payload
        self._end()
        raise StopIteration

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cancel(self) -> None:
        """Ask for it to end after the piece in the making; from any thread."""
        if not self._done:
            self._lane.cancel()

    def close(self) -> None:
        """Cancel it, and wait until it has ended, so that its lane is free again. Idempotent."""
        self.cancel()
        with suppress(AgentError):
            for _ in self:
                pass

    def _end(self) -> None:
        self._done = True
        self._finish()
