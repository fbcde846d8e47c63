"""When a worker that ended is started again. Pure."""

from dataclasses import dataclass

FIRST_PAUSE_S = 0.5  # before the second start in a row; the first one is at once
LONGEST_PAUSE_S = 60.0
STEADY_S = 60.0  # a worker that lived so long begins a new row


@dataclass(frozen=True, slots=True)
class Backoff:
    """Ends in a row.

    Attributes:
        ends: of workers that did not live long, one after the other.
    """

    ends: int = 0

    @property
    def pause_s(self) -> float:
        """Before the next start, seconds."""
        if self.ends <= 1:
            return 0.0
        # The exponent is bounded, so that a worker that fails for years overflows nothing.
        return min(FIRST_PAUSE_S * 2.0 ** min(self.ends - 2, 32), LONGEST_PAUSE_S)

    def after(self, lived_s: float) -> "Backoff":
        """After one more end, of a worker that lived so long."""
        return Backoff(1) if lived_s >= STEADY_S else Backoff(self.ends + 1)
