"""What an operator can choose about the local API; every bound has its unit beside it."""

from dataclasses import dataclass, fields
from pathlib import Path

from agent.errors import BadConfig

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The local API on a Unix socket, and who may use it.

    Attributes:
        socket: path of the Unix socket, at most 96 bytes long.
        owner: user that owns the socket file; empty for the daemon's own.
        group: group that may connect; empty for the daemon's own.
        mode: permissions of the socket file, octal digits.
        operators: users, or groups written @group, that may also load and unload models.
        apps: users, or groups written @group, that may infer and submit readings.
        viewers: users, or groups written @group, that may only look.
        default_role: role of everybody else who can open the socket; none refuses them.
        max_connections: open connections; one more is answered 503 and closed.
        max_caller_connections: open connections of one user, root and the daemon's own excepted.
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
    owner: str = ""
    group: str = ""
    mode: str = "0660"
    operators: tuple[str, ...] = ()
    apps: tuple[str, ...] = ()
    viewers: tuple[str, ...] = ()
    default_role: str = "app"
    max_connections: int = 1024
    max_caller_connections: int = 512
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
            if isinstance(value, int | float) and value <= 0:
                raise BadConfig("must be above 0", where=item.name)
        if len(bytes(self.socket)) > 96:
            raise BadConfig(
                "is longer than the 96 bytes that a socket's path may have", where="socket"
            )
        if self.default_role not in ("none", "viewer", "app", "operator"):
            raise BadConfig("must be none, viewer, app or operator", where="default_role")
        if not (
            self.mode.isdigit() and set(self.mode) <= set("01234567") and int(self.mode, 8) <= 0o777
        ):
            raise BadConfig("must be octal digits, such as 0660", where="mode")
        if self.max_bodies_mib < self.max_body_mib:
            raise BadConfig("must not be less than max_body_mib", where="max_bodies_mib")

    @property
    def permissions(self) -> int:
        """`mode` as a number."""
        return int(self.mode, 8)
