"""One connection: bytes in, requests in order, answers out.

A request that is whole is given to its route's handler. A handler that returns at once is answered
within the same turn of the event loop, without a task; an awaitable gets a task, which dies with the
connection. Requests that arrive meanwhile wait in order, up to a bound. After a refusal the rest of
what the client sends is read and thrown away for a moment, so that it can read the answer.
"""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Awaitable
from contextlib import aclosing
from typing import TYPE_CHECKING, cast

from agent.api.http.errors import Problem, Rejection, error_response
from agent.api.http.intake import Intake
from agent.api.http.messages import Answer, Request, Response, Stream, head, stream_head
from agent.api.rates import Account
from agent.api.tokens import Tokens
from agent.errors import AgentError, TooMany, TooSlow

if TYPE_CHECKING:
    from agent.api.http.server import HttpServer

MAX_PIPELINED = 32  # whole requests that wait for the one before them
HOLD_BACK_S = 0.05  # before a caller that asks too much is told so, seconds
LINGER_S = 2.0  # reading on after a refusal, seconds
JOIN_BELOW = 128 * 1024  # bytes: smaller answers are sent in one piece

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

_log = logging.getLogger(__name__)


class Connection(asyncio.Protocol):
    """The server's side of a connection. Its owner is an HttpServer.

    Attributes:
        deadline: loop time after which the sweeper calls `expire`.
        account: of the caller that connected, for the owner's books.
    """

    def __init__(self, server: "HttpServer", tokens: Tokens | None = None) -> None:
        self.deadline = math.inf
        self.account = Account()
        self._server = server
        self._tokens = tokens
        self._limits = server.limits
        self._loop = server.loop
        self._waiting: deque[Request] = deque()
        self._problem: Problem | None = None  # said after what is waiting
        self._current: Request | None = None
        self._task: asyncio.Task[None] | None = None
        self._room: asyncio.Event | None = None  # while the client does not take what is sent
        self._streaming = False
        self._deaf = False  # what arrives is thrown away
        self._last = False  # no request after those that are waiting
        self._eof = False

    # What the transport says

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._allow(self._limits.idle_timeout_s)
        caller, problem = self._server.connected(self, self._transport)
        self._intake = Intake(self, self._server.router, self._limits, caller, self._tokens)
        if problem is not None:
            # No lingering: it would let those without a place take one for a while.
            self._deaf = True
            self._write(error_response(problem), with_body=True, close=True)
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._intake.feed(data)
        if self._current is None:
            self._next()

    def eof_received(self) -> bool:
        self._eof = True
        # A client that has said all may still wait for its answer; a stream's listener has gone.
        current = self._current
        return current is not None and not (self._streaming or current.route.needs_listener)

    def connection_lost(self, _: Exception | None) -> None:
        self._deaf = True
        self.deadline = math.inf
        self._forget_waiting()
        self._intake.release()
        self._server.disconnected(self)
        if self._task is not None:
            self._task.cancel()
        elif self._current is not None:
            self._release(self._current)

    def pause_writing(self) -> None:
        self._room = asyncio.Event()
        self._transport.pause_reading()
        self._allow(self._limits.write_timeout_s)

    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set()
        self._room = None
        self._transport.resume_reading()
        self._rest()

    # What the intake says

    def begun(self) -> None:
        if self._current is None:
            self._allow(self._limits.header_timeout_s)

    def body_begun(self, *, send_continue: bool) -> None:
        if self._current is None and not self._waiting:
            self._allow(self._limits.body_timeout_s)
            if send_continue:
                self._transport.write(_CONTINUE)

    def arrived(self, request: Request) -> None:
        if self._last:
            self._release(request)
            return
        self._waiting.append(request)
        if not request.keep_alive or len(self._waiting) >= MAX_PIPELINED:
            self.ended()

    def broken(self, problem: Problem) -> None:
        if not self._last:
            self._problem = problem
            self._last = self._deaf = True

    def ended(self) -> None:
        self._last = self._deaf = True
        if self._waiting:
            self._waiting[-1].keep_alive = False

    # What the server says

    @property
    def idle(self) -> bool:
        """No request is under way, waiting, or received in part."""
        return self._current is None and not self._waiting and not self._intake.partial

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = math.inf
        if self._room is not None or self._deaf:
            self._transport.abort()
        elif self._intake.partial:
            self._hang_up(Rejection(408, TooSlow("the request did not arrive in time")))
        else:
            self._transport.close()

    def finish(self) -> None:
        """Close as soon as what has arrived is answered; a stream ends now."""
        self._last = True
        if self._streaming and self._task is not None:
            self._task.cancel()
        elif self.idle:
            self._transport.close()

    def abort(self) -> None:
        """Close without another word."""
        self._transport.abort()

    # Answering

    def _next(self) -> None:
        """Answer the next request that waits, or say what is wrong with what followed."""
        if self._current is not None or self._transport.is_closing():
            return
        if not self._waiting:
            if self._problem is not None:
                self._hang_up(self._problem)
            return
        self._current = request = self._waiting.popleft()
        self.deadline = math.inf
        account = request.caller.account
        try:
            refusal = account.refusal(self._loop.time())
            answer = request.route.handler(request) if refusal is None else _held_back(refusal)
        except (AgentError, Rejection) as problem:
            answer = _refused(request, problem)
        except Exception:  # noqa: BLE001 (nothing that a handler does ends the daemon)
            answer = _failed(request)
        if isinstance(answer, Response):
            self._send(request, answer)
        else:
            account.running += 1
            self._task = self._loop.create_task(self._see_through(request, answer))
            self._task.add_done_callback(account.finished)

    def _send(self, request: Request, response: Response) -> None:
        close = not request.keep_alive or self._server.stopping
        self._write(response, with_body=request.method != "HEAD", close=close)
        self._done(request, response.status, close=close)

    def _done(self, request: Request, status: int, *, close: bool) -> None:
        self._server.answered(request, status)
        self._release(request)
        self._current = self._task = None
        if close or (self._eof and not self._waiting):
            self._forget_waiting()
            self._deaf = True
            self._transport.close()
        self._rest()
        if self._waiting or self._problem is not None:
            self._loop.call_soon(self._next)

    def _rest(self) -> None:
        """Set the deadline for what the client has to do next."""
        limits = self._limits
        if self._room is not None:
            seconds = limits.write_timeout_s
        elif self._current is not None:
            seconds = math.inf
        elif self._deaf:
            seconds = LINGER_S
        elif self._intake.partial:
            seconds = limits.body_timeout_s
        else:
            seconds = limits.idle_timeout_s
        self._allow(seconds)

    def _allow(self, seconds: float) -> None:
        """Give the client so long for its next step."""
        self.deadline = deadline = self._loop.time() + seconds
        if deadline < self._server.sweeps_at:
            self._server.sweep_by(deadline)

    def _write(self, response: Response, *, with_body: bool, close: bool) -> None:
        parts = response.parts
        length = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        start = head(response, length, close=close)
        if not with_body:
            self._transport.write(start)
        elif length < JOIN_BELOW:
            self._transport.write(b"".join((start, *parts)))
        else:
            self._transport.writelines([start, *parts])

    def _hang_up(self, problem: Problem) -> None:
        """Say what is wrong and close, but not before the client can have read it."""
        self._problem = None
        self._deaf = True
        self._forget_waiting()
        self._intake.release()
        response = self._intake.form(problem)
        self._server.refused(response.status)
        self._write(response, with_body=True, close=True)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:  # TLS
            self._transport.close()
        self._allow(LINGER_S)

    def _forget_waiting(self) -> None:
        while self._waiting:
            self._release(self._waiting.popleft())

    def _release(self, request: Request) -> None:
        if request.held:
            self._limits.bodies.give_back(request.held, request.caller.account)
            request.held = 0

    # Answers that take time

    async def _see_through(self, request: Request, pending: "Awaitable[Answer] | Stream") -> None:
        try:
            answer = await self._outcome(request, pending)
            if isinstance(answer, Stream):
                await self._stream(request, answer)
            elif not self._transport.is_closing():
                self._send(request, answer)
        except asyncio.CancelledError:
            self._transport.close()
        except Exception:  # noqa: BLE001 (nothing that a handler does ends the daemon)
            _log.exception("%s %s broke off", request.route.method, request.route.pattern)
            self._transport.abort()
        finally:
            self._release(request)

    async def _outcome(self, request: Request, pending: "Awaitable[Answer] | Stream") -> Answer:
        if isinstance(pending, Stream):
            return pending
        seconds = (request.route.deadline_s or self._limits.request_deadline_s) + request.wait_s
        try:
            async with asyncio.timeout(seconds):
                return await pending
        except TimeoutError:
            return _refused(request, TooSlow(f"no answer within {seconds:g} s"))
        except (AgentError, Rejection) as problem:
            return _refused(request, problem)
        except Exception:  # noqa: BLE001 (nothing that a handler does ends the daemon)
            return _failed(request)

    async def _stream(self, request: Request, stream: Stream) -> None:
        self._streaming = True
        chunked = request.keep_alive
        self._transport.write(stream_head(stream, chunked=chunked))
        async with aclosing(stream.chunks):
            if request.method != "HEAD":
                await self._send_chunks(stream, chunked=chunked)
        self._streaming = False
        self._done(request, 200, close=not chunked or self._server.stopping)

    async def _send_chunks(self, stream: Stream, *, chunked: bool) -> None:
        try:
            async for chunk in stream.chunks:
                self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
                if self._room is not None:
                    await self._room.wait()
        finally:
            # Also when the daemon stops: the client sees an end, not a break.
            if chunked and not self._transport.is_closing():
                self._transport.write(b"0\r\n\r\n")


async def _held_back(refusal: TooMany) -> Response:
    """A refusal that comes late: a client that does not wait must not keep the daemon busy."""
    await asyncio.sleep(HOLD_BACK_S)
    raise refusal


def _refused(request: Request, problem: Problem) -> Response:
    return (request.route.problem or error_response)(problem)


def _failed(request: Request) -> Response:
    _log.exception("%s %s failed", request.route.method, request.route.pattern)
    # The details are in the log, and only there.
    return _refused(request, AgentError("the agent failed; the log says why"))
