"""Calls that are under way on one connection: answered in order, sent as the peer's windows allow."""

import asyncio
import logging
from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING

from agent.api.grpc import frames as f
from agent.api.grpc.headers import ANSWER, DONE, failed, timeout_of
from agent.api.grpc.statuses import INTERNAL, UNIMPLEMENTED, Unimplemented, status_of, told
from agent.api.grpc.stream import HELD_ABOVE, Stream
from agent.errors import AgentError, BadPayload, TooSlow

if TYPE_CHECKING:
    from agent.api.grpc.connection import GrpcConnection
    from agent.api.http.server import HttpServer

STREAM_WINDOW = 4 << 20  # bytes that a peer may send on a stream before it is told to go on
CREDIT = 10  # frames that bring nothing, forgiven for each call that is answered

CUT = BadPayload("the call ended before its message was whole", where="message")
_log = logging.getLogger(__name__)


class Calls:
    """The calls of a connection.

    Attributes:
        streams: by the number of their HTTP/2 stream.
        window: bytes that the peer still takes on the connection.
        peer_window: bytes that it takes on a new stream.
        peer_frame: bytes of the largest frame that it takes.
    """

    def __init__(
        self, connection: "GrpcConnection", transport: asyncio.Transport, server: "HttpServer"
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self.window = self.peer_window = f.DEFAULT_WINDOW
        self.peer_frame = f.DEFAULT_MAX_FRAME
        self._connection = connection
        self._transport = transport
        self._server = server
        self._loop = server.loop
        self._limits = server.limits
        self._account = connection.account

    @property
    def unfinished(self) -> bool:
        """Whether a peer owes the rest of a message."""
        return any(not s.ended and not s.method.streaming for s in self.streams.values())

    @property
    def blocked(self) -> bool:
        """Whether answers wait for the peer to take them."""
        return any(stream.pending for stream in self.streams.values())

    def account_for(self, stream: Stream) -> None:
        """Keep the books of what a call holds, and let the peer go on when that is little.

        Raises:
            TooMany: bodies hold too much already.
        """
        wanted = stream.cost if stream.cost > HELD_ABOVE else 0
        if wanted > stream.held:
            self._limits.bodies.hold(wanted - stream.held, self._account)
        elif wanted < stream.held:
            self._limits.bodies.give_back(stream.held - wanted, self._account)
        stream.held = wanted
        # A message that is not whole needs the rest of it, however much of it is there.
        if stream.received > STREAM_WINDOW // 2 and (stream.arrived or not stream.messages):
            self._transport.write(f.window_update(stream.number, stream.received))
            stream.received = 0

    def resize(self, window: int) -> None:
        """The peer takes another number of bytes on each stream (RFC 9113, section 6.9.2)."""
        for stream in self.streams.values():
            stream.window += window - self.peer_window
        self.peer_window = window

    def answer_next(self, stream: Stream) -> None:
        """Answer the next message of a call that waits, or end the call."""
        if stream.answering or stream.trailers is not None:
            return
        streaming = stream.method.streaming
        if not stream.messages:
            if stream.ended:
                self._conclude(stream) if streaming else self.refuse(
                    stream, status_of(CUT), told(CUT)
                )
            return
        if not streaming and not stream.ended:
            return  # a call has one message: that it is the only one is known at its end
        message = stream.next_message()
        self.account_for(stream)
        self._begin(stream, message)

    def _begin(self, stream: Stream, message: bytes) -> None:
        method, now = stream.method, self._loop.time()
        try:
            refusal = self._account.refusal(now)
            if refusal is not None:
                raise refusal
            answer = method.handler(self._connection, message)
        except Exception as error:  # noqa: BLE001 - nothing that a handler does ends the daemon
            self._stumble(stream, error)
            return
        if isinstance(answer, bytes):
            self._deliver(stream, answer)
            return
        stream.answering = True
        self._account.running += 1
        task = self._loop.create_task(self._see_through(stream, answer))
        task.add_done_callback(self._account.finished)
        task.add_done_callback(partial(_close, answer))
        stream.task = task

    async def _see_through(self, stream: Stream, pending: Awaitable[bytes]) -> None:
        allowed = self._limits.request_deadline_s
        limit_s = min(allowed, timeout_of(stream.headers) or allowed)
        try:
            async with asyncio.timeout(limit_s):
                answer = await pending
        except TimeoutError:
            stream.answering = False
            self._stumble(stream, TooSlow(f"no answer within {limit_s:g} s"))
        except Exception as error:  # noqa: BLE001 - as above
            stream.answering = False
            self._stumble(stream, error)
        else:
            stream.answering = False
            self._deliver(stream, answer)

    def _deliver(self, stream: Stream, answer: bytes) -> None:
        """A message is answered."""
        if stream.number not in self.streams:
            return
        self._connection.forgive(CREDIT)
        size = len(answer) + 5
        if stream.method.streaming:
            self._send(stream, stream.method.wrap(answer))
            self._loop.call_soon(self.answer_next, stream)
        elif size <= self.peer_frame and size <= min(self.window, stream.window):
            self.window -= size
            self._transport.write(stream.whole(answer, ANSWER, DONE))
            self._over(stream, 0)
        else:
            self._send(stream, answer)
            self._conclude(stream)

    def _stumble(self, stream: Stream, error: Exception) -> None:
        """A message is not answered."""
        if stream.number not in self.streams:
            return
        if stream.method.streaming and isinstance(error, AgentError):
            self._send(stream, stream.method.wrap_error(told(error)))
            self._loop.call_soon(self.answer_next, stream)
        elif isinstance(error, AgentError):
            self.refuse(stream, status_of(error), told(error))
        elif isinstance(error, Unimplemented):
            self.refuse(stream, UNIMPLEMENTED, str(error))
        else:
            _log.error("a call failed", exc_info=error, extra={"method": stream.method.name})
            self.refuse(stream, INTERNAL, "the agent failed; the log says why [agent.error]")

    def _send(self, stream: Stream, message: bytes) -> None:
        if not stream.began:
            stream.began = True
            self._transport.write(f.frame(f.HEADERS, f.END_HEADERS, stream.number, ANSWER))
        stream.queue(message)
        self.flush(stream)

    def _conclude(self, stream: Stream) -> None:
        if not stream.began:
            stream.began = True
            self._transport.write(f.frame(f.HEADERS, f.END_HEADERS, stream.number, ANSWER))
        stream.trailers = DONE
        self.flush(stream)

    def refuse(self, stream: Stream, status: int, message: str) -> None:
        """End a call with an error, whatever of an answer was sent."""
        stream.pending.clear()
        self.write_end(stream.number, failed(status, message, alone=not stream.began))
        if not stream.ended:  # what else it sends is not wanted
            self._transport.write(f.rst_stream(stream.number, f.NO_ERROR))
        self._over(stream, status)

    def flush(self, stream: Stream) -> None:
        """Send what the peer's windows allow."""
        while stream.pending:
            most = min(self.window, stream.window, self.peer_frame)
            if most <= 0:
                return
            piece = stream.next_piece(most)
            self.window -= len(piece)
            stream.window -= len(piece)
            self._transport.write(f.frame(f.DATA, 0, stream.number, bytes(piece)))
        if stream.trailers is not None and stream.number in self.streams:
            self.write_end(stream.number, stream.trailers)
            self._over(stream, 0)

    def flush_all(self) -> None:
        for stream in list(self.streams.values()):
            self.flush(stream)

    def write_end(self, number: int, block: bytes) -> None:
        self._transport.write(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, block))

    def _over(self, stream: Stream, status: int) -> None:
        self._server.counted(f"grpc {stream.method.name}", str(status))
        self.forget(stream)
        self._connection.close_when_done()

    def forget(self, stream: Stream) -> None:
        if self.streams.pop(stream.number, None) is None:
            return
        if stream.held:
            self._limits.bodies.give_back(stream.held, self._account)
        if stream.task is not None and not stream.task.done():
            stream.task.cancel()


def _close(pending: Awaitable[bytes], _: object) -> None:
    """Let go of an answer that may not have been begun."""
    close = getattr(pending, "close", None)
    if close is not None:
        close()
