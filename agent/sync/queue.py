"""Which row of the outbox goes next. Pure.

Rows are looked up in order of arrival, class by class; each class has a cursor behind which every row
was either sent on this connection or parked because the broker refused it. More important classes
always go first; within a class, and so within a topic, order of arrival holds.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.store.outbox import CLASSES, Queued
from agent.types import MessageClass

RETRY_REFUSED_S = 60.0  # seconds until a message that the broker refused is offered again


@dataclass(frozen=True, slots=True)
class Fetch:
    """Rows to look up: of `kind`, with `seq` over `after`, at most `limit`.

    `news` says how much was known to have been added when this was asked for.
    """

    kind: MessageClass
    after: int
    limit: int
    news: int


class SendQueue:
    """The rows on their way, from the table to the acknowledgement.

    A row is *ready* (looked up), *in flight* (sent), *settling* (acknowledged, still in the table) or
    *parked* (refused for now). Only rows that are none of these are looked up again.
    """

    def __init__(self, ahead: int) -> None:
        """Start with nothing looked up.

        Args:
            ahead: rows to hold ready; twice the window of messages in flight serves well.
        """
        self._ahead = ahead
        self._ready: dict[MessageClass, deque[Queued]] = {kind: deque() for kind in CLASSES}
        self._after: dict[MessageClass, int] = dict.fromkeys(CLASSES, 0)
        self._more: dict[MessageClass, bool] = dict.fromkeys(CLASSES, True)
        self._news = 0
        self._in_flight: dict[int, Queued] = {}
        self._settling: set[int] = set()
        self._parked: dict[int, tuple[MessageClass, float]] = {}

    @property
    def in_flight(self) -> int:
        """Rows sent and not acknowledged."""
        return len(self._in_flight)

    def connected(self) -> None:
        """A connection begins: whatever was on its way is to be sent again."""
        self._in_flight.clear()
        self._parked.clear()
        for kind in CLASSES:
            self._rewind(kind)

    def news(self) -> None:
        """Rows were added to the table."""
        self._news += 1
        for kind in CLASSES:
            self._more[kind] = True

    def fetch(self) -> list[Fetch]:
        """What to look up next, all at once; empty when enough is ready or nothing is left."""
        return [
            Fetch(kind, self._after[kind], wanted, self._news)
            for kind in CLASSES
            if self._more[kind]
            and (wanted := self._ahead - len(self._ready[kind])) > self._ahead // 2
        ]

    def fetched(self, fetch: Fetch, rows: Sequence[Queued]) -> None:
        """The answer to `fetch`; outdated answers are passed over."""
        if fetch.after != self._after[fetch.kind]:
            return
        if rows:
            self._after[fetch.kind] = rows[-1].seq
            self._ready[fetch.kind].extend(row for row in rows if not self._busy(row.seq))
        elif fetch.news == self._news:
            self._more[fetch.kind] = False

    def peek(self) -> Queued | None:
        """The row that goes next; it stays until `sent`."""
        for kind in CLASSES:
            if self._ready[kind]:
                return self._ready[kind][0]
            if self._more[kind]:
                return None  # something more important may be in the table
        return None

    def sent(self, row: Queued) -> None:
        """The row that `peek` gave is in flight."""
        self._ready[row.message.kind].popleft()
        self._in_flight[row.seq] = row

    def skip(self, row: Queued) -> None:
        """The row that `peek` gave does not go (it expired); the table will lose it."""
        self._ready[row.message.kind].popleft()

    def acknowledged(self, row: Queued) -> None:
        """The broker has it; the table does not know yet."""
        self._in_flight.pop(row.seq, None)
        self._settling.add(row.seq)

    def settled(self, rows: Iterable[Queued]) -> None:
        """The table has let go of them."""
        self._settling.difference_update(row.seq for row in rows)

    def refused(self, row: Queued, now: float) -> None:
        """The broker refused it: park it. `now` is monotonic, seconds."""
        self._in_flight.pop(row.seq, None)
        self._parked[row.seq] = (row.message.kind, now + RETRY_REFUSED_S)

    def next_retry(self) -> float | None:
        """When the first parked row is due, monotonic seconds; None when nothing is parked."""
        return min((due for _, due in self._parked.values()), default=None)

    def unpark(self, now: float) -> None:
        """Offer the rows again whose time has come."""
        due = {seq: kind for seq, (kind, at) in self._parked.items() if at <= now}
        for seq in due:
            del self._parked[seq]
        for kind in set(due.values()):
            self._rewind(kind)

    def _rewind(self, kind: MessageClass) -> None:
        self._ready[kind].clear()
        self._after[kind] = 0
        self._more[kind] = True

    def _busy(self, seq: int) -> bool:
        return seq in self._in_flight or seq in self._settling or seq in self._parked
