"""How fast and when the device may send. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from agent.errors import BadConfig

BURST_S = 2.0  # seconds of the allowed rate that may be sent at once
_DAY_MIN = 24 * 60
_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


class Pace:
    """A bound on bits a second, as a bucket that fills with time and may be overdrawn by one message.

    What is important is not held up by it, but drawn from it all the same.
    """

    def __init__(self, bit_s: float, now: float) -> None:
        """Start with a full bucket.

        Args:
            bit_s: the bound; 0 for none.
            now: monotonic seconds.
        """
        self._rate = bit_s / 8  # bytes a second
        self._room = self._rate * BURST_S
        self._filled = now

    def delay(self, now: float) -> float:
        """Seconds until the next message may go; 0 when it may go now."""
        if not self._rate:
            return 0.0
        self._fill(now)
        return max(0.0, -self._room / self._rate)

    def take(self, size: int) -> None:
        """A message of `size` bytes goes."""
        if self._rate:
            self._room -= size

    def _fill(self, now: float) -> None:
        gained = self._rate * max(0.0, now - self._filled)
        self._room = min(self._rate * BURST_S, self._room + gained)
        self._filled = now


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Stretches of the day in which telemetry waits; escalations and reports go all the same.

    Attributes:
        stretches: first minute of the day and the minute after the last; may run over midnight.
    """

    stretches: tuple[tuple[int, int], ...] = ()

    @classmethod
    def parse(cls, texts: Sequence[str]) -> "QuietHours":
        """Read ``22:00-06:00`` and the like, local time.

        Raises:
            BadConfig: a text is no such stretch, or an empty one.
        """
        return cls(tuple(_stretch(text) for text in texts))

    def left(self, minute: float) -> float:
        """Minutes until telemetry may go, at a minute of the day; 0 when it may go now."""
        return max((_left(first, end, minute) for first, end in self.stretches), default=0.0)


def _stretch(text: str) -> tuple[int, int]:
    found = _HOURS.fullmatch(text)
    if found is None or text[:5] == text[6:]:
        raise BadConfig(
            f"{text!r} is no stretch of the day", where="quiet_hours", hint="Write 22:00-06:00."
        )
    first_h, first_m, end_h, end_m = map(int, found.groups())
    return first_h * 60 + first_m, end_h * 60 + end_m


def _left(first: int, end: int, minute: float) -> float:
    since, length = (minute - first) % _DAY_MIN, (end - first) % _DAY_MIN
    return length - since if since < length else 0.0
