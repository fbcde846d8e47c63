"""What an operator can choose about the local API; every bound has its unit beside it."""

import re
from dataclasses import dataclass, fields
from pathlib import Path

from agent.errors import BadConfig

MIB = 1024 * 1024

LOOPBACK = ("127.0.0.1", "::1", "localhost")

_TOKEN = re.compile(r"(viewer|app|operator):[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The local API on a Unix socket, and who may use it.

    Attributes:
        socket: path of the Unix socket, at most 92 bytes long.
        grpc: serve the Open Inference Protocol by gRPC too, on a second socket named as the first with .grpc.
        owner: user that owns the socket file; empty for the daemon's own.
        group: group that may connect; empty for the daemon's own.
        mode: permissions of the socket file, octal digits.
        operators: users, or groups written @group, that may also load and unload models.
        apps: users, or groups written @group, that may infer and submit readings.
        viewers: users, or groups written @group, that may only look.
        default_role: role of everybody else who can open the socket; none refuses them.
        tcp: host:port to listen on as well, for clients that cannot open a Unix socket; empty for none.
        tokens: who may call over TCP, each as role:SHA-256 of a token of at least 32 random characters.
        tls_certificate: PEM file with the server's certificate, for TCP; needed unless it is loopback.
        tls_key: PEM file with its private key.
        max_connections: open connections; one more is answered 503 and closed.
        max_caller_connections: open connections of one user, root and the daemon's own excepted.
        max_caller_rate: requests of one user or token, per second, root and the daemon's own user excepted; more are answered 429.
        max_caller_burst: requests that a caller may send at once before its rate counts.
        max_caller_running: requests of one caller under way at once, the same excepted.
        max_caller_bodies_mib: large bodies of one caller's requests under way together, MiB; one body always fits.
        max_caller_event_streams: event streams of one caller open at once.
        max_header_kib: request line and headers of one request, KiB.
        max_headers: header lines of one request.
        max_body_mib: body of one request, MiB; routes may take less.
        max_bodies_mib: bodies of all requests under way together, MiB.
        max_running: requests that may be inside a model or the pipelines at once; more are answered 429.
        header_timeout_s: from the first byte of a request to the end of its headers, seconds.
        body_timeout_s: for the body of a request to arrive, seconds.
        idle_timeout_s: between two requests of a connection, seconds.
        write_timeout_s: for a client to take what was sent to it, seconds.
        request_deadline_s: for the answer to a request, seconds.
        heartbeat_s: between two signs of life on a quiet event stream, seconds.
        max_event_streams: event streams open at once.
    """

    socket: Path = Path("/run/edge-agent/agent.sock")
    grpc: bool = False
    owner: str = ""
    group: str = ""
    mode: str = "0660"
    operators: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    default_role: str = "app"
    tcp: str = ""
    tokens: tuple[str, ...] = ()
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    max_connections: int = 1024
    max_caller_connections: int = 512
    max_caller_rate: float = 5000.0
    max_caller_burst: int = 1000
    max_caller_running: int = 32
    max_caller_bodies_mib: int = 64
    max_caller_event_streams: int = 8
    max_header_kib: int = 16
    max_headers: int = 64
    max_body_mib: int = 64
    max_bodies_mib: int = 128
    max_running: int = 64
    header_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    request_deadline_s: float = 30.0
    heartbeat_s: float = 15.0
    max_event_streams: int = 32

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if type(value) in {int, float} and value <= 0:
                raise BadConfig("must be above 0", where=item.name)
        if len(bytes(self.socket)) > 92:
            raise BadConfig(
                "is longer than the 92 bytes that a socket's path may have",
                where="socket",
                hint="Name a shorter one, for example /run/edge-agent/agent.sock",
            )
        if self.default_role not in ("none", "viewer", "app", "operator"):
            raise BadConfig("must be none, viewer, app or operator", where="default_role")
        if not (
            self.mode.isdigit() and set(self.mode) <= set("01234567") and int(self.mode, 8) <= 0o777
        ):
            raise BadConfig("must be octal digits, such as 0660", where="mode")
        self._check_tcp()
        if self.max_bodies_mib < self.max_body_mib:
            raise BadConfig("must not be less than max_body_mib", where="max_bodies_mib")

    def _check_tcp(self) -> None:
        for index, entry in enumerate(self.tokens):
            if not _TOKEN.fullmatch(entry):
                raise BadConfig(
                    "must be viewer:, app: or operator: and a SHA-256 in hexadecimal",
                    where=f"tokens[{index}]",
                )
        if not self.tcp:
            return
        host, port = self.tcp_address()
        if not self.tokens:
            raise BadConfig("must name at least one, since tcp is on", where="tokens")
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise BadConfig("needs both a certificate and a key", where="tls_key")
        if self.tls_certificate is None and host not in LOOPBACK:
            raise BadConfig(
                "must be loopback, or tokens would cross the network in the clear",
                where="tcp",
                hint="Set tls_certificate and tls_key, or listen on 127.0.0.1",
            )
        if not 0 <= port < 65536:
            raise BadConfig("must have a port from 0 to 65535", where="tcp")

    def tcp_address(self) -> tuple[str, int]:
        """Host and port of `tcp`.

        Raises:
            BadConfig: it is not of the form host:port.
        """
        host, colon, port = self.tcp.rpartition(":")
        if not (host and colon and port.isdigit()):
            raise BadConfig("must be host:port, such as 127.0.0.1:8000", where="tcp")
        return host.strip("[]"), int(port)

    @property
    def permissions(self) -> int:
        """`mode` as a number."""
        return int(self.mode, 8)
