"""One HTTP/2 connection of a gRPC client: frames in, calls in order, answers out.

A call of one message is answered in the same turn of the event loop if its method can; an awaitable
gets a task, which dies with its call. Everything a peer may do too much of is bounded: streams, bytes
of headers and messages, frames that ask for work and bring none.
"""

import asyncio
import math
from typing import TYPE_CHECKING, cast

from agent.api.grpc import frames as f
from agent.api.grpc.answering import CUT, STREAM_WINDOW, Calls
from agent.api.grpc.codec import Codec
from agent.api.grpc.frames import ConnectionFailed, Frame
from agent.api.grpc.headers import (
    MAX_LIST,
    NOT_GRPC,
    HeaderReader,
    Headers,
    check_request,
    failed,
)
from agent.api.grpc.statuses import (
    PERMISSION_DENIED,
    UNIMPLEMENTED,
    status_of,
    told,
)
from agent.api.grpc.stream import Stream
from agent.api.rates import Account
from agent.errors import AgentError, BadPayload

if TYPE_CHECKING:
    from agent.api.callers import Caller
    from agent.api.grpc.methods import Methods
    from agent.api.http.server import HttpServer

MAX_STREAMS = 100  # calls at once
MAX_FRAME = 1 << 20  # bytes of a frame that is taken
WINDOW = 16 << 20  # the same on the connection
NUISANCE = 1000  # frames that bring nothing, more than calls that are answered
MAX_CONTINUATIONS = 16  # frames of one header block


class GrpcConnection(asyncio.Protocol):
    """The server's side of a connection. Its owner is the HttpServer that listens.

    Attributes:
        deadline: loop time after which the owner's sweeper calls `expire`.
        account: of the caller that connected.
        caller: who connected.
        codec: what this client repeats.
    """

    caller: "Caller"

    def __init__(self, server: "HttpServer", methods: "Methods") -> None:
        self.deadline = math.inf
        self.account = Account()
        self.codec = Codec()
        self._server = server
        self._methods = methods
        self._limits = server.limits
        self._loop = server.loop
        self._buffer = bytearray()
        self._preface = False
        self._reader = HeaderReader()
        self._block: tuple[Frame, bytearray, int] | None = None  # headers that are not whole
        self._last = 0
        self._received = 0
        self._nuisance = 0.0
        self._annoyed_at = self._loop.time()
        self._leaving = False
        self._kinds = {
            f.DATA: self._on_data,
            f.HEADERS: self._on_headers,
            f.RST_STREAM: self._on_reset,
            f.SETTINGS: self._on_settings,
            f.PING: self._on_ping,
            f.WINDOW_UPDATE: self._on_window,
            f.CONTINUATION: self._on_continuation,
            f.PUSH_PROMISE: self._on_push,
        }

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.caller, problem = self._server.connected(self, self._transport)
        self._calls = Calls(self, self._transport, self._server)
        self._allow(self._limits.header_timeout_s)
        opening = f.settings(
            {
                3: MAX_STREAMS,
                f.SETTINGS_INITIAL_WINDOW: STREAM_WINDOW,
                f.SETTINGS_MAX_FRAME: MAX_FRAME,
                6: MAX_LIST,
            }
        )
        self._transport.write(opening + f.window_update(0, WINDOW - f.DEFAULT_WINDOW))
        if problem is not None:
            self._leaving = True
            self._transport.write(f.goaway(0, f.ENHANCE_YOUR_CALM, told(problem)))
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._buffer += data
        try:
            self._consume()
        except ConnectionFailed as error:
            self._fail(error)

    def connection_lost(self, _: Exception | None) -> None:
        self.deadline = math.inf
        for stream in list(self._calls.streams.values()):
            self._calls.forget(stream)
        self._server.disconnected(self)

    def pause_writing(self) -> None:
        self._transport.pause_reading()
        self._allow(self._limits.write_timeout_s)

    def resume_writing(self) -> None:
        self._transport.resume_reading()
        self._rest()

    # What the owner says

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = math.inf
        if self._calls.streams or not self._transport.is_reading():
            self._transport.abort()
        else:
            self.finish()

    def finish(self) -> None:
        """Take no further call, and close when those under way are answered."""
        if not self._leaving:
            self._leaving = True
            self._transport.write(f.goaway(self._last, f.NO_ERROR))
        self.close_when_done()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    # Frames

    def _consume(self) -> None:
        buffer, at = self._buffer, 0
        if not self._preface:
            if not f.PREFACE.startswith(bytes(buffer[: len(f.PREFACE)])):
                raise ConnectionFailed(f.PROTOCOL_ERROR, "this is not HTTP/2")
            if len(buffer) < len(f.PREFACE):
                return
            self._preface, at = True, len(f.PREFACE)
        while (found := f.read_frame(buffer, at, MAX_FRAME)) is not None:
            at += f.HEADER + len(found.payload)
            if self._block is not None and found.kind != f.CONTINUATION:
                raise ConnectionFailed(f.PROTOCOL_ERROR, "headers are cut by another frame")
            handler = self._kinds.get(found.kind)
            if handler is None:
                self._annoyed()
            else:
                handler(found)
        del buffer[:at]
        self._rest()

    def forgive(self, count: int) -> None:
        """Something useful was done."""
        self._nuisance = max(0.0, self._nuisance - count)

    def _annoyed(self) -> None:
        """A frame that brings nothing: too many of them are an attack. One a second is forgiven."""
        now = self._loop.time()
        self._nuisance = max(0.0, self._nuisance - (now - self._annoyed_at)) + 1
        self._annoyed_at = now
        if self._nuisance > NUISANCE:
            raise ConnectionFailed(f.ENHANCE_YOUR_CALM, "too many frames that bring nothing")

    def _on_headers(self, found: Frame) -> None:
        block = f.unpadded(found)
        if found.stream % 2 == 0:
            raise ConnectionFailed(f.PROTOCOL_ERROR, "a stream that a client cannot open")
        if found.flags & f.END_HEADERS:
            self._headers(found, block)
        else:
            self._block = (found, bytearray(block), 0)

    def _on_continuation(self, found: Frame) -> None:
        if self._block is None or self._block[0].stream != found.stream:
            raise ConnectionFailed(f.PROTOCOL_ERROR, "a continuation of nothing")
        first, block, count = self._block
        block += found.payload
        if len(block) > MAX_LIST or count >= MAX_CONTINUATIONS:
            raise ConnectionFailed(f.ENHANCE_YOUR_CALM, "headers without end")
        if found.flags & f.END_HEADERS:
            self._block = None
            self._headers(first, bytes(block))
        else:
            self._block = (first, block, count + 1)

    def _headers(self, found: Frame, block: bytes) -> None:
        headers = self._reader.read(block)  # always: the table must follow the peer's
        stream = self._calls.streams.get(found.stream)
        if stream is not None:  # trailers
            self._end(stream, found.flags & f.END_STREAM)
        elif found.stream > self._last:
            self._last = found.stream
            self._open(found, headers)
        else:
            self._annoyed()  # of a stream that is reset meanwhile

    def _open(self, found: Frame, headers: Headers) -> None:
        path = check_request(headers)
        number = found.stream
        if self._leaving or len(self._calls.streams) >= MAX_STREAMS:
            self._annoyed()
            self._transport.write(f.rst_stream(number, f.REFUSED_STREAM))
            return
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            self._calls.write_end(number, NOT_GRPC)
            return
        method = self._methods.get(path)
        if method is None:
            self._calls.write_end(
                number, failed(UNIMPLEMENTED, f"there is no {path[:100]}", alone=True)
            )
            return
        stream = self._calls.streams[number] = Stream(
            number, method, headers, self._calls.peer_window
        )
        if self.caller.role < method.role:
            message = f"needs the role {method.role.name.lower()} [caller.forbidden]"
            self._calls.refuse(stream, PERMISSION_DENIED, message)
        elif found.flags & f.END_STREAM:
            self._end(stream, True)

    def _on_data(self, found: Frame) -> None:
        size = len(found.payload)
        self._received += size
        if self._received > WINDOW:
            raise ConnectionFailed(f.FLOW_CONTROL_ERROR, "more than the window allows")
        if self._received > WINDOW // 2:
            self._transport.write(f.window_update(0, self._received))
            self._received = 0
        if not size:
            self._annoyed()
        stream = self._calls.streams.get(found.stream)
        if stream is None:
            if found.stream > self._last:
                raise ConnectionFailed(f.PROTOCOL_ERROR, "data of a stream that is not open")
            return  # of one that was answered or reset meanwhile
        try:
            self._take(stream, f.unpadded(found) if found.flags & f.PADDED else found.payload, size)
        except AgentError as error:
            self._calls.refuse(stream, status_of(error), told(error))
            return
        self._end(stream, found.flags & f.END_STREAM)

    def _take(self, stream: Stream, data: bytes, size: int) -> None:
        stream.received += size
        if stream.received > STREAM_WINDOW:
            raise BadPayload("more than the stream's window allows", where="message")
        stream.take(data, self._limits.max_body)
        self._calls.account_for(stream)

    def _end(self, stream: Stream, ended: int) -> None:
        """What has arrived may be a whole message, or the end of them."""
        if ended:
            stream.ended = True
            if stream.arrived:
                self._calls.refuse(stream, status_of(CUT), told(CUT))
                return
        self._calls.answer_next(stream)

    def _on_reset(self, found: Frame) -> None:
        self._annoyed()
        f.number(found.payload)
        stream = self._calls.streams.get(found.stream)
        if stream is not None:
            self._calls.forget(stream)

    def _on_settings(self, found: Frame) -> None:
        self._annoyed()
        if found.flags & f.ACK:
            return
        values = f.read_settings(found.payload)
        self._calls.peer_frame = values.get(f.SETTINGS_MAX_FRAME, self._calls.peer_frame)
        self._calls.resize(values.get(f.SETTINGS_INITIAL_WINDOW, self._calls.peer_window))
        self._transport.write(f.frame(f.SETTINGS, f.ACK, 0))
        self._calls.flush_all()

    def _on_ping(self, found: Frame) -> None:
        self._annoyed()
        if len(found.payload) != 8:
            raise ConnectionFailed(f.FRAME_SIZE_ERROR, "a ping of the wrong size")
        if not found.flags & f.ACK:
            self._transport.write(f.frame(f.PING, f.ACK, 0, found.payload))

    def _on_window(self, found: Frame) -> None:
        size = f.number(found.payload)
        if not size:
            raise ConnectionFailed(f.PROTOCOL_ERROR, "a window that grows by nothing")
        if found.stream == 0:
            self._calls.window += size
            if self._calls.window > f.LARGEST_WINDOW:
                raise ConnectionFailed(f.FLOW_CONTROL_ERROR, "a window of more than 2^31 - 1 bytes")
            self._calls.flush_all()
        elif (stream := self._calls.streams.get(found.stream)) is not None:
            stream.window = min(f.LARGEST_WINDOW, stream.window + size)
            self._calls.flush(stream)
        if not self._calls.streams:
            self._annoyed()

    def _on_push(self, _: Frame) -> None:
        raise ConnectionFailed(f.PROTOCOL_ERROR, "a client does not push")

    # The end

    def _fail(self, error: ConnectionFailed) -> None:
        """The peer broke the protocol: say so, and hang up."""
        self._leaving = True
        self._server.refused(400)
        self._transport.write(f.goaway(self._last, error.code, error.reason))
        self._transport.close()

    def close_when_done(self) -> None:
        if self._leaving and not self._calls.streams:
            self._transport.close()

    def _rest(self) -> None:
        """Set the deadline for what the client has to do next."""
        limits = self._limits
        if self._calls.blocked:
            self._allow(limits.write_timeout_s)
        elif self._calls.unfinished or self._buffer:
            self._allow(limits.body_timeout_s)
        elif self._calls.streams:
            self.deadline = math.inf
        else:
            self._allow(limits.idle_timeout_s)

    def _allow(self, seconds: float) -> None:
        self.deadline = deadline = self._loop.time() + seconds
        if deadline < self._server.sweeps_at:
            self._server.sweep_by(deadline)
