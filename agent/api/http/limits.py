"""The server's bounds as the connection needs them, and what all bodies hold together."""

from dataclasses import dataclass, field

from agent.api.rates import Account
from agent.api.settings import MIB, ApiSettings
from agent.errors import TooLarge, TooMany

MAX_TARGET = 8 * 1024  # bytes of a request's target


class Bodies:
    """How much memory the bodies of all requests under way may take together, bytes."""

    __slots__ = ("_bound", "held")

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self.held = 0

    def hold(self, size: int, account: Account) -> None:
        """Take room for some bytes of a caller.

        Raises:
            TooMany: other requests, or others of this caller, hold too much of it already.
        """
        if self.held + size > self._bound:
            raise TooMany("other requests fill the room for bodies", where="body")
        account.hold(size)
        self.held += size

    def give_back(self, size: int, account: Account) -> None:
        """Return room that was taken."""
        self.held -= size
        account.held -= size


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection; sizes in bytes, times in seconds."""

    max_header: int
    max_headers: int
    max_body: int
    header_timeout_s: float
    body_timeout_s: float
    idle_timeout_s: float
    write_timeout_s: float
    request_deadline_s: float
    bodies: Bodies = field(repr=False)
    max_target: int = MAX_TARGET

    @classmethod
    def of(cls, settings: ApiSettings) -> "Limits":
        """The bounds that an operator chose."""
        return cls(
            max_header=settings.max_header_kib * 1024,
            max_headers=settings.max_headers,
            max_body=settings.max_body_mib * MIB,
            header_timeout_s=settings.header_timeout_s,
            body_timeout_s=settings.body_timeout_s,
            idle_timeout_s=settings.idle_timeout_s,
            write_timeout_s=settings.write_timeout_s,
            request_deadline_s=settings.request_deadline_s,
            bodies=Bodies(settings.max_bodies_mib * MIB),
        )

    def headers_error(self) -> TooLarge:
        """Too many headers, or too long."""
        return TooLarge(
            f"the headers have more than {self.max_headers} lines or {self.max_header // 1024} KiB",
            where="headers",
        )
