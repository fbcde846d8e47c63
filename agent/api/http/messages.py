"""Requests, responses and how a response's head is written. Pure."""

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import msgspec

from agent.api.callers import Caller, Role
from agent.errors import BadPayload

T = TypeVar("T")

JSON = b"application/json"
NO_STORE = b"Cache-Control: no-store\r\n"
MAX_WAIT_S = 300  # that a caller may prefer to wait in one request

_WAIT = re.compile(rb"(?:^|,)\s*wait\s*=\s*\"?(\d{1,6})\"?\s*(?:[;,]|$)", re.IGNORECASE)

REASONS: Mapping[int, bytes] = {
    200: b"OK",
    201: b"Created",
    202: b"Accepted",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    414: b"URI Too Long",
    415: b"Unsupported Media Type",
    417: b"Expectation Failed",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
    504: b"Gateway Timeout",
    507: b"Insufficient Storage",
}

encode_json = msgspec.json.Encoder(enc_hook=str).encode


@dataclass(slots=True, eq=False)
class Request:
    """A whole request.

    Attributes:
        route: what answers it.
        method: for example ``POST``; a HEAD arrives as GET, and its body is never sent.
        arguments: parts of the path that the route's pattern names, decoded.
        query: decoded; of a key given twice the last counts.
        headers: lower-case names; of a header given twice the values are joined by a comma.
        body: all of it.
        caller: whom the kernel says it comes from.
        keep_alive: the client may send another one after it.
        held: bytes taken of the room for bodies, given back when the request is done.
    """

    route: "Route"
    method: str
    arguments: Mapping[str, str]
    query: Mapping[str, str]
    headers: dict[bytes, bytes]
    body: bytes
    caller: Caller
    keep_alive: bool = True
    held: int = 0

    def again(self, body: bytes) -> "Request":
        """The same request with another body, which holds no room."""
        return Request(
            self.route,
            self.method,
            self.arguments,
            self.query,
            self.headers,
            body,
            self.caller,
            self.keep_alive,
        )

    @property
    def wait_s(self) -> int:
        """How long the caller prefers to wait for a result, seconds; 0 where that is not offered."""
        header = self.headers.get(b"prefer") if self.route.waits else None
        found = _WAIT.search(header) if header else None
        return min(int(found[1]), MAX_WAIT_S) if found else 0

    @property
    def framed_by_length(self) -> bool:
        """Whether its body is as long as a header says, and was sent without being asked for."""
        headers = self.headers
        return not (b"transfer-encoding" in headers or b"expect" in headers)

    def decoded(self, kind: type[T]) -> T:
        """The body as a JSON object of a type; an empty body is an empty object.

        Raises:
            BadPayload: it is not one; the text says which field.
        """
        try:
            return msgspec.json.decode(self.body or b"{}", type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise BadPayload(f"not what is asked for: {error}", where="body") from None


class Response:
    """A whole response.

    Attributes:
        status: HTTP status.
        parts: the body in pieces, which are sent one after the other.
        content_type: of the body.
        headers: further header lines, each ending in CRLF.
    """

    __slots__ = ("content_type", "headers", "parts", "status")

    def __init__(
        self,
        parts: Sequence[bytes | memoryview],
        content_type: bytes = JSON,
        status: int = 200,
        headers: bytes = b"",
    ) -> None:
        self.parts = parts
        self.content_type = content_type
        self.status = status
        self.headers = headers


@dataclass(slots=True)
class Stream:
    """A response whose body comes over time and ends when the client or the daemon goes.

    Attributes:
        chunks: pieces of the body; closed when the client is gone.
        content_type: of the body.
    """

    chunks: AsyncGenerator[bytes, None]
    content_type: bytes = b"text/event-stream"


Answer: TypeAlias = "Response | Stream"
#: What an error looks like to its clients.
Form: TypeAlias = Callable[[Any], Response]
Handler: TypeAlias = "Callable[[Request], Answer | Awaitable[Answer]]"


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """What a route says of itself, for the OpenAPI document and its readers.

    Attributes:
        summary: one line.
        body: type of a JSON body; None where there is no JSON body.
        answer: type of a JSON answer; None where the answer is no JSON.
        body_media: media types of other bodies, which are bytes.
        answer_media: media types of other answers.
        query: fields of the query and what they mean.
        headers: further headers of the request and what they mean.
        also: statuses beside 200 that answer with the same type.
        body_required: whether an empty body is refused.
        error: type of an error's JSON; None for the server's own form.
    """

    summary: str = ""
    body: Any = None
    answer: Any = None
    body_media: tuple[str, ...] = ()
    answer_media: tuple[str, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    also: tuple[int, ...] = ()
    body_required: bool = True
    error: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """What answers a method and a path.

    Attributes:
        method: GET or POST.
        pattern: path; a part in braces stands for any one part, for example ``/v2/models/{model}``.
        handler: returns the answer, or an awaitable of it. Raises AgentError.
        role: the least role that may call it.
        max_body: bytes; None for the server's own bound.
        deadline_s: until its answer, or a stream's beginning; None for the server's own, seconds.
        problem: what an error looks like to its clients; None for the server's own form.
        operation: how the route describes itself.
        waits: whether a caller may prefer to wait longer than others (RFC 7240).
    """

    method: str
    pattern: str
    handler: Handler
    role: Role = Role.VIEWER
    max_body: int | None = None
    deadline_s: float | None = None
    problem: Form | None = None
    operation: Operation = Operation()
    needs_listener: bool = False
    waits: bool = False
    parts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.pattern.strip("/").split("/")))

    @property
    def arguments(self) -> list[str]:
        """Names that the pattern gives to parts of the path."""
        return [part[1:-1] for part in self.parts if part.startswith("{")]


def json_body(value: Any) -> bytes:
    """A body of plain values, and a line feed: a terminal's next prompt begins its own line."""
    return encode_json(value) + b"\n"


def json_response(value: Any, status: int = 200, headers: bytes = b"") -> Response:
    """A response of plain values; what JSON does not know is sent as text, NaN as null."""
    return Response([json_body(value)], JSON, status, headers)


def text_response(text: bytes, content_type: bytes, headers: bytes = b"") -> Response:
    """A response of text that is already encoded."""
    return Response([text], content_type, 200, headers)


def head(response: Response, length: int, *, close: bool) -> bytes:
    """Status line and headers."""
    return b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b%b\r\n" % (
        response.status,
        REASONS[response.status],
        response.content_type,
        length,
        response.headers,
        b"Connection: close\r\n" if close else b"",
    )


def stream_head(stream: Stream, *, chunked: bool) -> bytes:
    """Status line and headers of a streamed response."""
    framing = b"Transfer-Encoding: chunked\r\n" if chunked else b"Connection: close\r\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\nCache-Control: no-store\r\n%b\r\n" % (
        stream.content_type,
        framing,
    )
