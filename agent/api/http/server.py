"""The server: accepts, bounds and counts connections, sweeps out the slow, and drains at the end."""

import asyncio
import logging
import math
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from agent.api.callers import Caller, Role, Roles
from agent.api.http.connection import Connection
from agent.api.http.limits import Limits
from agent.api.http.messages import Request
from agent.api.http.router import Router
from agent.api.http.socketfile import BACKLOG, open_listener, remove
from agent.api.rates import Account, Accounts, Refusals
from agent.api.settings import ApiSettings
from agent.api.tokens import NOBODY, Tokens
from agent.errors import AgentError, Forbidden, NotReachable, NotReady, TooMany
from agent.telemetry.metrics import Counter, Metrics

if TYPE_CHECKING:
    import ssl

_CREDENTIALS = struct.Struct("3i")  # pid, uid, gid

SWEEP_EVERY_S = 0.05  # at most so often

_log = logging.getLogger(__name__)


def requests_counter(metrics: Metrics) -> Counter:
    """What was answered."""
    return metrics.counter(
        "edge_agent_api_requests_total", "Requests that were answered", ("route", "status")
    )


class Served(Protocol):
    """A connection, whichever protocol it speaks.

    Attributes:
        deadline: loop time after which `expire` is called.
        account: of the caller that connected.
    """

    deadline: float
    account: Account

    def expire(self) -> None: ...
    def finish(self) -> None: ...
    def abort(self) -> None: ...


class HttpServer:
    """Serves a table of routes on a Unix socket.

    Attributes:
        limits: bounds of each connection.
        router: the routes.
        loop: the event loop that everything here runs on.
        stopping: no further request is taken.
        sweeps_at: loop time of the next look for connections whose time is up.
        tcp_port: where TCP is listened on; 0 when it is not.
    """

    def __init__(self, settings: ApiSettings, router: Router, metrics: Metrics) -> None:
        self.limits = Limits.of(settings)
        self.router = router
        self.stopping = False
        self.sweeps_at = math.inf
        self.tcp_port = 0
        self._settings = settings
        self._roles = Roles(settings)
        self._connections: set[Served] = set()
        self._accounts = Accounts(settings, Refusals(metrics))
        self._nobody = self._accounts.of_nobody()
        self._empty = asyncio.Event()
        self._sweep: asyncio.TimerHandle | None = None
        self._servers: list[asyncio.Server] = []
        self._beside: list[tuple[Path, int]] = []
        self._requests = requests_counter(metrics)
        self._refusals = metrics.counter(
            "edge_agent_api_refusals_total",
            "Connections that were ended for what was sent on them",
            ("status",),
        )
        metrics.gauge_callback(
            "edge_agent_api_connections", "Connections that are open", lambda: self.connections
        )
        metrics.gauge_callback(
            "edge_agent_api_bodies_bytes",
            "Memory that large bodies of requests hold",
            lambda: self.limits.bodies.held,
        )

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen.

        Raises:
            NotReachable: somebody else listens there, or the place cannot be written.
            BadConfig: the configured owner or group does not exist.
        """
        self.loop = asyncio.get_running_loop()
        listener = open_listener(self._settings, self._settings.socket)
        self._inode = self._settings.socket.lstat().st_ino
        server = await self.loop.create_unix_server(
            lambda: Connection(self), sock=listener, backlog=BACKLOG
        )
        self._servers.append(server)
        _log.info("listening on %s", self._settings.socket)
        if self._settings.tcp:
            await self._start_tcp()

    async def listen_beside(self, suffix: str, make: "Callable[[], asyncio.Protocol]") -> None:
        """Listen on a second Unix socket, named as the first with a suffix, for another protocol.

        Its connections count among the server's own. Raises as `start`.
        """
        first = self._settings.socket
        path = first.with_name(first.name + suffix)
        listener = open_listener(self._settings, path)
        self._beside.append((path, path.lstat().st_ino))
        server = await self.loop.create_unix_server(make, sock=listener, backlog=BACKLOG)
        self._servers.append(server)
        _log.info("listening on %s", path)

    async def _start_tcp(self) -> None:
        host, port = self._settings.tcp_address()
        tokens = Tokens(self._settings.tokens, self._accounts.of_token)
        try:
            server = await self.loop.create_server(
                lambda: Connection(self, tokens), host, port, backlog=BACKLOG, ssl=self._tls()
            )
        except OSError as error:
            await self.close(0)
            raise NotReachable(
                f"cannot listen: {error.strerror or error}", where=self._settings.tcp
            ) from error
        self._servers.append(server)
        self.tcp_port = server.sockets[0].getsockname()[1]
        _log.info("listening on %s, port %d", host, self.tcp_port)

    def _tls(self) -> "ssl.SSLContext | None":
        if self._settings.tls_certificate is None:
            return None
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.tls_certificate, self._settings.tls_key)
        return context

    async def close(self, deadline_s: float = 5.0) -> None:
        """Take no more, answer what has arrived until the deadline, then cut off. Idempotent."""
        if not self._servers:
            return
        self.stopping = True
        remove(self._settings.socket, self._inode)
        for path, inode in self._beside:
            remove(path, inode)
        while self._servers:
            self._servers.pop().close()
        for connection in list(self._connections):
            connection.finish()
        await self._drained(deadline_s)
        if self._sweep is not None:
            self._sweep.cancel()

    async def _drained(self, deadline_s: float) -> None:
        try:
            async with asyncio.timeout(deadline_s):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            _log.warning("%d connections were cut off", len(self._connections))
        for connection in list(self._connections):
            connection.abort()

    # What connections say

    def connected(
        self, connection: Served, transport: asyncio.Transport
    ) -> tuple[Caller, AgentError | None]:
        """Who calls, and why the connection must not stay, if so."""
        caller = self._caller(transport)
        self._connections.add(connection)
        connection.account = caller.account
        return caller, self._objection(caller)

    def disconnected(self, connection: Served) -> None:
        """The connection is gone."""
        self._connections.discard(connection)
        connection.account.connections -= 1
        if not self._connections:
            self._empty.set()

    def answered(self, request: Request, status: int) -> None:
        """A request got an answer."""
        self._requests.inc(1, request.route.pattern, str(status))

    def counted(self, route: str, status: str) -> None:
        """A call of another protocol got an answer."""
        self._requests.inc(1, route, status)

    def refused(self, status: int) -> None:
        """A connection is ended for what was sent on it."""
        self._refusals.inc(1, str(status))

    def sweep_by(self, when: float) -> None:
        """Sweep at this loop time, which is earlier than the next one."""
        if self._sweep is not None:
            self._sweep.cancel()
        self.sweeps_at = when
        self._sweep = self.loop.call_at(when, self._sweep_out)

    # Inside

    def _caller(self, transport: asyncio.Transport) -> Caller:
        return self.caller_of(cast("socket.socket", transport.get_extra_info("socket")))

    def caller_of(self, peer: socket.socket) -> Caller:
        """The process at the other end of a connection."""
        if peer.family != socket.AF_UNIX:
            # Until its token says more.
            return Caller(NOBODY, NOBODY, 0, Role.VIEWER, self._nobody)
        raw = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, gid = _CREDENTIALS.unpack(raw)
        role = self._roles.role(uid, gid)
        account = self._accounts.of_user(
            uid,
            role.name.lower(),
            privileged=self._roles.privileged(uid),
            now=self.loop.time(),
        )
        return Caller(uid, gid, pid, role, account)

    def _objection(self, caller: Caller) -> AgentError | None:
        too_many = caller.account.connected()
        if self.stopping:  # it was accepted just before
            return NotReady("the agent is stopping")
        if caller.role is Role.NONE:
            return Forbidden("this user has no role here", hint="Add it to a role in the table api")
        settings = self._settings
        if len(self._connections) > settings.max_connections:
            return TooMany(f"{settings.max_connections} connections are open already")
        return too_many

    def _sweep_out(self) -> None:
        """One timer for all connections: it fires when the first one's time may be up."""
        now = self.loop.time()
        for connection in [c for c in self._connections if c.deadline <= now]:
            connection.expire()
        self._sweep, self.sweeps_at = None, math.inf
        first = min((c.deadline for c in self._connections), default=math.inf)
        if first < math.inf:
            self.sweep_by(max(first, now + SWEEP_EVERY_S))
