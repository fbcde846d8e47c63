"""What is handed in, and what the one who did so is told. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from agent.errors import AgentError
from agent.types import Rows


@dataclass(frozen=True, slots=True)
class Single:
    """A message about one sensor alone."""

    sensor: str
    time: float
    value: float


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of readings that were handed in; by now it is on the disk.

    Attributes:
        accepted: rows that the detector took.
        dropped: rows that it did not take, by reason.
        windows: windows that were scored.
        warnings: warnings that began.
    """

    accepted: int = 0
    dropped: Mapping[str, int] = field(default_factory=dict)
    windows: int = 0
    warnings: int = 0

    def __add__(self, other: "Receipt") -> "Receipt":
        reasons = [*self.dropped, *(r for r in other.dropped if r not in self.dropped)]
        return Receipt(
            self.accepted + other.accepted,
            {r: self.dropped.get(r, 0) + other.dropped.get(r, 0) for r in reasons},
            self.windows + other.windows,
            self.warnings + other.warnings,
        )


#: Called once in the event loop, after the commit or with what prevented it.
Done = Callable[[Receipt | AgentError], None]


@dataclass(frozen=True, slots=True)
class Entry:
    """Something handed in.

    Attributes:
        item: rows, or one sensor's reading.
        done: told what became of it.
        exact: whether `done` wants a receipt of its own; others may be scored as one table, and
            share a receipt.
    """

    item: Rows | Single
    done: Done
    exact: bool = False

    @property
    def rows(self) -> int:
        """What it counts against the bounds."""
        return len(self.item) if isinstance(self.item, Rows) else 1


def join(tables: Sequence[Rows]) -> Rows:
    """Tables of one stream and the same sensors, one after the other, as one."""
    first = tables[0]
    time = np.concatenate([rows.time for rows in tables])
    return Rows(first.stream, first.sensors, time, np.concatenate([r.values for r in tables]))
