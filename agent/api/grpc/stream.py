"""One call: what has arrived of its messages, and what is still to be sent. Pure."""

import zlib
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from agent.api.grpc.frames import DATA, END_HEADERS, END_STREAM, HEADERS, frame
from agent.api.grpc.headers import Headers
from agent.errors import BadPayload, TooLarge

if TYPE_CHECKING:
    from agent.api.grpc.methods import Method

PREFIX = 5  # bytes before each message: compressed or not, and its length
OVERHEAD = 64  # bytes that a message takes beside its own
HELD_ABOVE = 64 * 1024  # bytes of a call that count against the room for bodies


class Task(Protocol):
    """Work under way."""

    def done(self) -> bool: ...
    def cancel(self) -> bool: ...


@dataclass(slots=True)
class Stream:
    """A call on a connection.

    Attributes:
        number: of the HTTP/2 stream.
        method: what is called.
        headers: of the request.
        window: bytes that the peer still takes on this stream.
        arrived: what has come and is not a whole message yet.
        messages: whole messages that wait.
        cost: bytes that what has arrived and waits takes in memory, about.
        held: bytes that count against the room for bodies.
        received: bytes taken from the wire and not given back to the peer's window yet.
        ended: the peer has said all.
        answering: a message is being answered.
        began: the answer's headers are sent.
        pending: bytes to be sent, in order.
        trailers: what ends the answer, once it may be sent.
        task: an answer that takes time.
    """

    number: int
    method: "Method"
    headers: Headers
    window: int
    arrived: bytearray = field(default_factory=bytearray)
    messages: deque[bytes] = field(default_factory=deque)
    cost: int = 0
    held: int = 0
    received: int = 0
    ended: bool = False
    answering: bool = False
    began: bool = False
    pending: deque[memoryview] = field(default_factory=deque)
    trailers: bytes | None = None
    task: "Task | None" = None

    def take(self, data: bytes, most: int) -> None:
        """Take bytes of the request, and cut messages off.

        Raises:
            TooLarge: a message says that it is larger than `most` bytes.
            BadPayload: it cannot be decompressed.
        """
        buffer = self.arrived
        buffer += data
        self.cost += len(data)
        while len(buffer) >= PREFIX:
            length = int.from_bytes(buffer[1:PREFIX], "big")
            if length > most:
                raise TooLarge(f"a message of {length} bytes, {most} are allowed", where="message")
            if len(buffer) < PREFIX + length:
                return
            message = bytes(buffer[PREFIX : PREFIX + length])
            compressed = buffer[0]
            del buffer[: PREFIX + length]
            plain = self._plain(message, most) if compressed else message
            self.cost += len(plain) - len(message) - PREFIX + OVERHEAD
            self.messages.append(plain)

    def next_message(self) -> bytes:
        """The message that waited longest. Raises IndexError: none waits."""
        message = self.messages.popleft()
        self.cost -= len(message) + OVERHEAD
        return message

    def _plain(self, message: bytes, most: int) -> bytes:
        encoding = self.headers.get(b"grpc-encoding", b"identity")
        if encoding not in {b"gzip", b"deflate"}:
            raise BadPayload(f"messages in {encoding[:20]!r} are not read", where="grpc-encoding")
        inflate = zlib.decompressobj(47)  # either header
        try:
            plain = inflate.decompress(message, most + 1)
        except zlib.error as error:
            raise BadPayload("it cannot be decompressed", where="message") from error
        if len(plain) > most or inflate.unconsumed_tail:
            raise TooLarge(f"decompressed, a message may have {most} bytes", where="message")
        return plain

    def whole(self, payload: bytes, answer: bytes, trailers: bytes) -> bytes:
        """A whole answer of one message, as frames; for messages of one frame."""
        number = self.number
        data = b"\0" + len(payload).to_bytes(4, "big") + payload
        return (
            frame(HEADERS, END_HEADERS, number, answer)
            + frame(DATA, 0, number, data)
            + frame(HEADERS, END_HEADERS | END_STREAM, number, trailers)
        )

    def queue(self, payload: bytes) -> None:
        """Let a message wait to be sent."""
        self.pending.append(memoryview(b"\0" + len(payload).to_bytes(4, "big")))
        if payload:
            self.pending.append(memoryview(payload))

    def next_piece(self, most: int) -> Any:
        """At most so many bytes of what waits, or None."""
        if not self.pending:
            return None
        piece = self.pending.popleft()
        if len(piece) > most:
            self.pending.appendleft(piece[most:])
            piece = piece[:most]
        return piece
