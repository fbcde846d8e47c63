"""How quickly the baseline follows the machine: slowly when healthy, hardly when not. Pure.

Rows are judged in blocks, counted from the first row ever scored, so that it does not matter in how
many pieces they arrive. A block is healthy when none of its scores comes near the threshold. While a
warning holds nothing is learned, so that a fault does not become normal, until the worst is over:
mended is not yet as before (a motor cools for minutes, a valve is left a little further open), and
what is left then becomes normal, after the warning more quickly than at other times.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from agent.tasks.anomaly.alarm import HysteresisState

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK_ROWS = 32  # rows after which the reference may move
HEALTHY_BELOW = 0.5  # score; 1.0 is the threshold
RECOVERED = 0.7  # of a warning's peak; below it the worst is over
SETTLING_SPEED = 3  # times the usual one, after a warning


class PaceState(msgspec.Struct):
    """What is kept between calls.

    Attributes:
        rows: rows of the present block so far.
        worst: highest score among them.
        settling: rows for which the last warning still quickens the following.
    """

    rows: int = 0
    worst: float = 0.0
    settling: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What the baseline takes of a block.

    Attributes:
        share: how far the reference moves towards the block's mean, 0 to 1.
        healthy: whether the covariance may learn from the block.
    """

    share: float
    healthy: bool


class Pace:
    """Decides at the end of each block."""

    def __init__(self, memory_rows: int, state: PaceState | None = None) -> None:
        self._memory = memory_rows
        self.state = state or PaceState()

    @property
    def room(self) -> int:
        """Rows until the present block ends."""
        return BLOCK_ROWS - self.state.rows

    def push(self, scores: "Floats", warning: HysteresisState) -> Step | None:
        """Count at most `room` rows; the step to take when they end the block."""
        state = self.state
        state.rows += len(scores)
        state.worst = max(state.worst, float(scores.max()))
        if state.rows < BLOCK_ROWS:
            return None
        step = self._recovery(warning.peak) if warning.since is not None else self._usual()
        state.rows, state.worst = 0, 0.0
        return step

    def _recovery(self, peak: float) -> Step:
        self.state.settling = self._memory
        return Step(self._share(1) if self.state.worst < RECOVERED * peak else 0.0, healthy=False)

    def _usual(self) -> Step:
        state = self.state
        if state.settling:
            state.settling = max(0, state.settling - BLOCK_ROWS)
            return Step(self._share(SETTLING_SPEED) if state.worst < 1.0 else 0.0, healthy=False)
        healthy = state.worst < HEALTHY_BELOW
        return Step(self._share(1) if healthy else 0.0, healthy)

    def _share(self, speed: int) -> float:
        return min(1.0, speed * BLOCK_ROWS / self._memory) if self._memory else 0.0
