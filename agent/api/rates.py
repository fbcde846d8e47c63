"""How much each caller may ask, so that one that asks without end slows nobody else.

A caller is a user of this machine or the holder of a token; all connections of it count together.
Nothing here waits or looks at a clock: the connection asks before each request whether it may go on.

Rates are held by the generic cell rate algorithm (ITU-T I.371, annex A), which needs one number a
caller: the moment at which, had requests come evenly, the next one would be due.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from agent.api.settings import MIB, ApiSettings
from agent.errors import TooMany
from agent.telemetry.metrics import Metrics

MAX_KEPT = 1024  # users without a connection whose accounts are kept


class Allowance(NamedTuple):
    """What one caller may ask; sizes in bytes, rates per second. Without bounds for root.

    Attributes:
        rate: requests a second.
        burst: requests at once before the rate counts.
        running: requests under way.
        bodies: bytes of large bodies.
        connections: open connections.
        streams: open event streams.
    """

    rate: float = math.inf
    burst: float = math.inf
    running: float = math.inf
    bodies: float = math.inf
    connections: float = math.inf
    streams: float = math.inf

    @classmethod
    def of(cls, settings: ApiSettings) -> "Allowance":
        """What an operator chose for callers other than root and the daemon's own user."""
        return cls(
            rate=settings.max_caller_rate,
            burst=settings.max_caller_burst,
            running=settings.max_caller_running,
            # One body of the largest size must fit, whatever was chosen.
            bodies=max(settings.max_caller_bodies_mib, settings.max_body_mib) * MIB,
            connections=settings.max_caller_connections,
            streams=settings.max_caller_event_streams,
        )


UNBOUNDED = Allowance()


class Refusals:
    """Counts what was refused for a caller's own sake, by class of caller and by limit."""

    def __init__(self, metrics: Metrics) -> None:
        self._counter = metrics.counter(
            "edge_agent_api_limited_total",
            "Requests and connections that were refused because their caller asks too much",
            ("caller", "role", "limit"),
        )

    def count(self, caller: str, role: str, limit: str) -> None:
        """One more refusal."""
        self._counter.inc(1, caller, role, limit)


@dataclass(slots=True, eq=False)
class Account:
    """What one caller has under way.

    Attributes:
        kind: user, token or anonymous, for metrics.
        role: of the caller, for metrics.
        allowance: what it may have.
        refusals: where its refusals are counted.
        connections: open ones.
        running: requests under way whose answers take time.
        held: bytes of large bodies.
        streams: open event streams.
    """

    kind: str = "user"
    role: str = ""
    allowance: Allowance = UNBOUNDED
    refusals: Refusals | None = None
    connections: int = 0
    running: int = 0
    held: int = 0
    streams: int = 0
    _due: float = -math.inf
    _interval: float = field(init=False)
    _tolerance: float = field(init=False)

    def __post_init__(self) -> None:
        unbounded = math.isinf(self.allowance.rate)
        self._interval = 0.0 if unbounded else 1 / self.allowance.rate
        # A hundredth of a request more, so that rounding does not cost a whole one.
        early = self.allowance.burst - 0.99
        self._tolerance = math.inf if unbounded else early * self._interval

    def refusal(self, now: float) -> TooMany | None:
        """Why a request that has come must not be answered; None when it may be, and is counted.

        Args:
            now: any clock's time that only goes forward, seconds.
        """
        allowance = self.allowance
        if self.running >= allowance.running:
            most = f"{allowance.running:g} requests of this caller are under way already"
            return self._refused("running", most)
        due = max(self._due, now)
        early = due - now - self._tolerance
        if early > 0:
            text = f"more than {allowance.rate:g} requests a second of one caller"
            return self._refused("rate", text, early)
        self._due = due + self._interval
        return None

    def hold(self, size: int) -> None:
        """Take room for some bytes of a body.

        Raises:
            TooMany: bodies of this caller hold too much already.
        """
        if self.held + size > self.allowance.bodies:
            raise self._refused("bodies", "other requests of this caller fill its room for bodies")
        self.held += size

    def connected(self) -> TooMany | None:
        """Count a connection; why it must not stay, if so. It is counted even then."""
        self.connections += 1
        most = self.allowance.connections
        if self.connections <= most:
            return None
        return self._refused("connections", f"this caller has {most:g} connections already")

    def check_streams(self) -> None:
        """Raise TooMany when this caller has as many event streams as it may."""
        most = self.allowance.streams
        if self.streams >= most:
            raise self._refused("streams", f"this caller has {most:g} event streams already")

    def finished(self, _: object = None) -> None:
        """A request that was counted as running is answered, or given up."""
        self.running -= 1

    def idle(self, now: float) -> bool:
        """Whether forgetting the account would change nothing."""
        return not self.connections and not self.running and self._due <= now

    def _refused(self, limit: str, message: str, retry_after_s: float = 1.0) -> TooMany:
        if self.refusals is not None:
            self.refusals.count(self.kind, self.role, limit)
        return TooMany(message, retry_after_s=retry_after_s)


class Accounts:
    """The accounts of this machine's users. One that has nothing under way is forgotten in time."""

    def __init__(self, settings: ApiSettings, refusals: Refusals) -> None:
        self._allowance = Allowance.of(settings)
        self._refusals = refusals
        self._by_user: dict[int, Account] = {}

    def of_user(self, uid: int, role: str, *, privileged: bool, now: float) -> Account:
        """A user's account. Root's and the daemon's own have no bounds: they can replace it anyway."""
        account = self._by_user.get(uid)
        if account is None:
            if len(self._by_user) >= MAX_KEPT:
                self._forget_idle(now)
            allowance = UNBOUNDED if privileged else self._allowance
            account = self._by_user[uid] = Account("user", role, allowance, self._refusals)
        return account

    def of_token(self, role: str) -> Account:
        """An account for the holder of a token."""
        return Account("token", role, self._allowance, self._refusals)

    def of_nobody(self) -> Account:
        """The one account of all who came over TCP and have not shown a token yet."""
        return Account("anonymous", "none", self._allowance, self._refusals)

    def _forget_idle(self, now: float) -> None:
        for uid in [uid for uid, account in self._by_user.items() if account.idle(now)]:
            del self._by_user[uid]
