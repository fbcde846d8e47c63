"""When to connect again, to which broker, and in which version of MQTT. Pure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Protocol = Literal["5", "3.1.1"]

#: How a connection, or the attempt at one, ended.
Ending = Literal[
    "unreachable",  # no connection: name, route, TCP or TLS
    "silent",       # connected, but the broker gave no first answer
    "closed",       # the broker closed before its first answer
    "version",      # the broker does not speak this version of MQTT
    "refused",      # the broker answered no
    "failed",       # it worked, then the broker stopped answering, misbehaved, or said why it ends
    "lost",         # it worked, then closed without a word
    "taken",        # another client came with the same identifier
    "moved",        # it worked, but an earlier one in the list answers again
]  # fmt: skip

STABLE_S = 10.0  # seconds a connection must live to count as working
CONTESTED = 3  # short lives in a row that look like two clients with one identifier
_TAKEN_FLOOR = 4  # doublings at once when another client took over: do not fight for the session


@dataclass(frozen=True, slots=True)
class Attempt:
    """What to try.

    Attributes:
        broker: position in the list of brokers.
        protocol: version of MQTT.
    """

    broker: int
    protocol: Protocol


class Attempts:
    """Decides on each attempt from how the ones before it ended.

    Pauses follow exponential back-off with full jitter: uniform between nothing and a bound that
    doubles with every failure, so that a fleet does not come back all at once (M. Brooker,
    "Exponential Backoff and Jitter", 2015). With several brokers the pause comes after each of them
    was tried.

    Attributes:
        contested: connections that broke young, in a row; from `CONTESTED` on, two clients probably
            share one identifier.
    """

    def __init__(
        self,
        brokers: int,
        min_s: float,
        max_s: float,
        random: Callable[[], float],
        protocol: Protocol | Literal["auto"] = "auto",
    ) -> None:
        """Start with the first broker.

        Args:
            brokers: how many there are.
            min_s: bound of the first pause, seconds.
            max_s: bound that is never exceeded, seconds.
            random: uniform in [0, 1).
            protocol: the only version to try, or auto: 5, and 3.1.1 where that fails.
        """
        self._protocol = protocol
        self.contested = 0
        self._brokers = brokers
        self._min_s = min_s
        self._max_s = max_s
        self._random = random
        self._broker = 0
        self._failures = 0
        self._only_3 = [False] * brokers  # the broker said so, or only so it answered
        self._guess_3 = False  # the next attempt, since the last had no good answer

    def next(self) -> Attempt:
        """What to try now."""
        old = self._guess_3 or self._only_3[self._broker]
        automatic: Protocol = "3.1.1" if old else "5"
        return Attempt(self._broker, automatic if self._protocol == "auto" else self._protocol)

    def connected(self) -> None:
        """The broker accepted."""
        if self._guess_3:
            self._only_3[self._broker] = True
            self._guess_3 = False

    def prefer(self, broker: int) -> None:
        """Try this broker next, whatever comes of the present one."""
        self._broker = broker

    def ended(self, how: Ending, lived_s: float = 0.0) -> float:
        """Take note of an end; returns the pause before the next attempt, seconds."""
        if how in {"version", "closed", "silent"} and self._may_fall_back():
            self._guess_3 = True
            return 0.0
        self._guess_3 = False
        if how == "moved":
            return 0.0
        if how in {"lost", "failed", "taken"}:
            return self._after_life(how, lived_s)
        self._broker = (self._broker + 1) % self._brokers
        return self._pause() if self._broker == 0 else 0.0

    def _may_fall_back(self) -> bool:
        return self._protocol == "auto" and self.next().protocol == "5"

    def _after_life(self, how: Ending, lived_s: float) -> float:
        if lived_s >= STABLE_S:
            self._failures = self.contested = 0
        elif how == "lost":
            self.contested += 1
        if how == "taken":
            self._failures = max(self._failures, _TAKEN_FLOOR)
        return self._pause()

    def _pause(self) -> float:
        bound = min(self._max_s, self._min_s * 2.0 ** min(self._failures, 64))
        self._failures += 1
        return self._random() * bound
