"""From the parser's callbacks to whole requests, every bound held on the way.

A client that calls in a loop sends the same head again and again, byte for byte, with another body.
The parser would find the same in it each time, so the last head is remembered: bytes that begin with
it, and have exactly the length that it declares, are the same request with another body.
"""

from collections.abc import Callable
from typing import NamedTuple, NoReturn, Protocol

import httptools

from agent.api.callers import Caller
from agent.api.http.errors import Problem, Rejection, error_response
from agent.api.http.limits import Limits
from agent.api.http.messages import Answer, Form, Request, Route
from agent.api.http.router import Match, Router
from agent.api.tokens import Tokens
from agent.errors import AgentError, BadPayload, Forbidden, TooLarge

UNCOUNTED = 64 * 1024  # bytes of a body that do not count towards all bodies together
SMALL = 64 * 1024  # bytes: a refused body up to this size is read, and the connection stays

MAX_REMEMBERED = 4096  # bytes of a head

#: Headers that must not be given twice: two readers could understand two different requests.
_ONCE = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"inference-header-content-length")
)


_VERSIONS = frozenset(("1.0", "1.1"))


class Outlet(Protocol):
    """Where whole requests go."""

    def begun(self) -> None:
        """The first byte of a request is here."""

    def body_begun(self, *, send_continue: bool) -> None:
        """The head of a request is here, and its body is not yet."""

    def arrived(self, request: Request) -> None:
        """A request is whole."""

    def broken(self, problem: Problem) -> None:
        """What follows cannot be understood, or must not be read."""

    def ended(self) -> None:
        """Nothing that can be understood follows the last request."""


class _Stop(Exception):
    """Raised through the parser to make it stop."""


class _Known(NamedTuple):
    """The last request that came alone and whole in one piece.

    Attributes:
        head: its bytes up to the body.
        size: of head and body.
        request: what was made of it.
    """

    head: bytes
    size: int
    request: Request


class Intake:
    """The parser's callbacks for one connection.

    Attributes:
        partial: a request has begun and is not whole.
    """

    def __init__(
        self,
        outlet: Outlet,
        router: Router,
        limits: Limits,
        caller: Caller,
        tokens: Tokens | None = None,
    ) -> None:
        self.partial = False
        self._parser = httptools.HttpRequestParser(self)
        self._outlet = outlet
        self._router = router
        self._limits = limits
        self._caller = caller
        self._tokens = tokens
        self._problem: Problem | None = None
        self._silent = 0  # bytes since a head began or a body went on, by whole reads
        self._held = 0
        self._bound = 0
        self._known: _Known | None = None
        self._whole: Request | None = None  # the last one of the bytes that are being read
        self._in_body = self._refused = False
        self._target = b""
        self._match: Match | None = None
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._header_lines = self._header_bytes = self._body_bytes = 0

    @property
    def form(self) -> Form:
        """How errors look to whom the request that is not whole yet comes from, once its path is known."""
        known = self._form() if self.partial else None
        return known or error_response

    def feed(self, data: bytes) -> None:
        """Bytes from the client."""
        known = self._known
        if (
            known is not None
            and len(data) == known.size
            and not self.partial
            and data.startswith(known.head)
        ):
            self._outlet.arrived(known.request.again(data[len(known.head) :]))
            return
        self._silent += len(data)  # taken back when a head begins or a body goes on in it
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._outlet.ended()
        except httptools.HttpParserError as error:
            self._outlet.broken(self._problem or BadPayload(f"this is not HTTP/1.1: {error}"))
        whole, self._whole = self._whole, None
        if self.partial:
            self._check_progress()
        elif whole is not None:
            self._remember(data, whole)

    def release(self) -> None:
        """Forget a request that will not become whole."""
        self._limits.bodies.give_back(self._held, self._caller.account)
        self._held = 0
        self._body = []

    # The parser's callbacks, in the order in which they come

    def on_message_begin(self) -> None:
        self._start()
        self.partial = True
        self._silent = 0
        self._outlet.begun()

    def on_url(self, target: bytes) -> None:
        self._target = self._target + target if self._target else target
        if len(self._target) > self._limits.max_target:
            self._stop(Rejection(414, TooLarge("the request's target is too long")))

    def on_header(self, name: bytes, value: bytes | None) -> None:
        value = value or b""
        self._header_lines += 1
        self._header_bytes += len(name) + len(value)
        limits = self._limits
        if self._header_bytes > limits.max_header or self._header_lines > limits.max_headers:
            self._stop(Rejection(431, limits.headers_error()))
        if self._in_body:
            return  # a trailer: counted, and of no use here
        name = name.lower()
        headers = self._headers
        if name in headers:
            value = self._joined(name, value)
        headers[name] = value

    def on_headers_complete(self) -> None:
        self._in_body = True
        headers = self._headers
        try:
            self._match = self._router.find(self._parser.get_method(), self._target)
            self._check_head(self._match[0])
        except (AgentError, Rejection) as problem:
            self._refuse(problem)
        if b"content-length" in headers or b"transfer-encoding" in headers:
            expected = b"expect" in headers and not self._refused
            self._outlet.body_begun(send_continue=expected)

    def on_body(self, data: bytes) -> None:
        self._silent = 0
        self._body_bytes += len(data)
        if self._refused:
            return  # small, or the parser would have been stopped
        if self._body_bytes > self._bound:
            self._stop(self._too_large())
        if self._body_bytes > UNCOUNTED:
            self._hold(len(data))
        self._body.append(data)

    def on_message_complete(self) -> None:
        self.partial = False
        assert self._match is not None
        route, arguments, query = self._match
        body = self._body
        request = Request(
            route,
            "HEAD" if self._parser.get_method() == b"HEAD" else route.method,
            arguments,
            query,
            self._headers,
            body[0] if len(body) == 1 else b"".join(body),
            self._caller,
            self._parser.should_keep_alive(),
            self._held,
        )
        self._held = 0
        self._whole = request if not self._refused else None
        self._outlet.arrived(request)

    # Checks

    def _start(self) -> None:
        self._in_body = self._refused = False
        self._target = b""
        self._match = None
        self._headers = {}
        self._body = []
        self._header_lines = self._header_bytes = self._body_bytes = 0

    def _check_head(self, route: Route) -> None:
        """What can be said before the body is here.

        Raises:
            AgentError, Rejection: the request will not be answered, whatever its body.
        """
        headers = self._headers
        version = self._parser.get_http_version()
        if version not in _VERSIONS:
            raise BadPayload("neither HTTP/1.0 nor HTTP/1.1", where="version")
        if b"host" not in headers and version == "1.1":
            raise BadPayload("the header is missing", where="Host")
        if version == "1.0" and b"transfer-encoding" in headers:  # RFC 9112, 6.1
            raise BadPayload("is not known to HTTP/1.0", where="Transfer-Encoding")
        if self._tokens is not None:
            self._caller = self._named(self._tokens, headers.get(b"authorization", b""))
        if b"content-encoding" in headers:
            raise Rejection(415, BadPayload("bodies are not compressed", where="Content-Encoding"))
        if b"upgrade" in headers and self._declared():
            raise BadPayload("no other protocol is offered", where="Upgrade")
        if b"expect" in headers and headers[b"expect"].lower() != b"100-continue":
            raise Rejection(417, BadPayload("only 100-continue is known", where="Expect"))
        if self._caller.role < route.role:
            raise Forbidden(
                f"this call needs the role {route.role.name.lower()}",
                where=route.pattern,
                hint="Add the user or its group to the role in the table api",
            )
        self._bound = self._limits.max_body if route.max_body is None else route.max_body
        if self._declared() > self._bound:
            raise self._too_large()

    @staticmethod
    def _named(tokens: Tokens, authorization: bytes) -> Caller:
        caller = tokens.caller(authorization)
        if caller is None:
            error = Forbidden("a token is needed", where="Authorization", hint="Bearer TOKEN")
            raise Rejection(401, error, b"WWW-Authenticate: Bearer\r\n")
        return caller

    def _declared(self) -> int:
        """Bytes of the body as the client says; the parser has checked that it is a number."""
        return int(self._headers.get(b"content-length", 0))

    def _too_large(self) -> TooLarge:
        bound = self._bound
        shown = f"{bound >> 20} MiB" if bound >> 20 else f"{bound} bytes"
        return TooLarge(f"the body may have at most {shown}", where="body")

    def _joined(self, name: bytes, value: bytes) -> bytes:
        if name in _ONCE:
            self._stop(BadPayload("the header is given twice", where=name.decode("latin-1")))
        return self._headers[name] + b", " + value

    def _hold(self, size: int) -> None:
        try:
            self._limits.bodies.hold(size, self._caller.account)
        except AgentError as error:
            self._stop(error)
        self._held += size

    def _remember(self, data: bytes, request: Request) -> None:
        """Keep a request's head, if the data is this request from end to end and nothing else."""
        size = len(data) - len(request.body)
        alone = data.find(b"\r\n\r\n") + 4 == size
        if alone and request.keep_alive and request.framed_by_length and size <= MAX_REMEMBERED:
            self._known = _Known(data[:size], len(data), request.again(b""))

    def _check_progress(self) -> None:
        """Lines without end fill the parser's own memory, which nobody else bounds."""
        if self._silent > self._limits.max_header:
            self._outlet.broken(Rejection(431, self._limits.headers_error()))

    def _refuse(self, problem: Problem) -> None:
        """Answer the request with the problem once it is whole; at once if its body is large."""
        if b"transfer-encoding" in self._headers or self._declared() > SMALL:
            self._stop(problem)
        self._refused = True
        self._match = (Route("GET", "", _raiser(problem), problem=self._form()), {}, {})

    def _form(self) -> Form | None:
        return self._match[0].problem if self._match else self._router.form(self._target)

    def _stop(self, problem: Problem) -> NoReturn:
        self._problem = problem
        raise _Stop


def _raiser(problem: Problem) -> Callable[[Request], Answer]:
    def handler(_: Request) -> Answer:
        raise problem

    return handler
