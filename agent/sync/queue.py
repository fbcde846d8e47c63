"""Which row of the outbox goes next. Pure.

Rows are looked up in order of arrival, class by class; each class has a cursor behind which every row
was either sent on this connection or is of a topic that the broker refused. More important classes
always go first; within a class, and so within a topic, order of arrival holds.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from agent.store.account import CLASSES, Queued
from agent.types import MessageClass

RETRY_REFUSED_S = 60.0  # seconds until a topic that the broker refused is offered again
MAX_REFUSED = 256  # topics remembered; with more the whole class waits


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

    A row is *ready* (looked up), *in flight* (sent) or *settling* (acknowledged, still in the table).
    Rows of a refused topic stay in the table until its time has come again: what follows on that
    topic would be refused as well, and must not overtake.
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
        self._refused: dict[
            str, tuple[MessageClass, float]
        ] = {}  # by topic, with the time to retry
        self._held: dict[MessageClass, float] = {}

    @property
    def in_flight(self) -> int:
        """Rows sent and not acknowledged."""
        return len(self._in_flight)

    @property
    def on_their_way(self) -> list[Queued]:
        """The rows sent and not acknowledged, in the order of sending."""
        return list(self._in_flight.values())

    def connected(self) -> None:
        """A connection begins: whatever was on its way is to be sent again."""
        self._in_flight.clear()
        self._refused.clear()
        self._held.clear()
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
            and kind not in self._held
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

    def peek(self, kinds: Sequence[MessageClass] = CLASSES) -> Queued | None:
        """The row that goes next, of these classes; it stays until `sent`."""
        for kind in kinds:
            if kind in self._held:
                continue
            ready = self._ready[kind]
            while ready and ready[0].message.topic in self._refused:
                ready.popleft()
            if ready:
                return ready[0]
            if self._more[kind]:
                return None  # something more important may be in the table
        return None

    def like(self, row: Queued, most: int) -> list[Queued]:
        """Rows of the topic of the row that `peek` gave, it first, in order, as many as are ready."""
        ready = self._ready[row.message.kind]
        same = (other for other in ready if other.message.topic == row.message.topic)
        return list(islice(same, most))

    def sent(self, rows: Sequence[Queued]) -> None:
        """The row that `peek` gave, or the first of those `like` it, are in flight."""
        ready = self._ready[rows[0].message.kind]
        if len(rows) == 1:
            ready.popleft()
        else:
            gone = {row.seq for row in rows}
            kept = [row for row in ready if row.seq not in gone]
            ready.clear()
            ready.extend(kept)
        self._in_flight.update((row.seq, row) for row in rows)

    def acknowledged(self, row: Queued) -> None:
        """The broker has it; the table does not know yet."""
        self._in_flight.pop(row.seq, None)
        self._settling.add(row.seq)

    def settled(self, rows: Iterable[Queued]) -> None:
        """The table has let go of them."""
        self._settling.difference_update(row.seq for row in rows)

    def refused(self, row: Queued, now: float) -> bool:
        """The broker refused it: its topic waits. `now` is monotonic, seconds.

        Returns:
            Whether that is new.
        """
        self._in_flight.pop(row.seq, None)
        return self.hold(row.message.topic, row.message.kind, now + RETRY_REFUSED_S)

    def hold(self, topic: str, kind: MessageClass, due: float) -> bool:
        """Let a topic wait until `due`, monotonic seconds, or the next connection.

        Returns:
            Whether that is new.
        """
        if topic in self._refused or kind in self._held:
            return False
        if len(self._refused) < MAX_REFUSED:
            self._refused[topic] = (kind, due)
        else:
            self._held[kind] = due
        return True

    def next_retry(self) -> float | None:
        """When the first refused topic is due, monotonic seconds; None when there is none."""
        topics = (due for _, due in self._refused.values())
        return min((*topics, *self._held.values()), default=None)

    def retry(self, now: float) -> None:
        """Offer again whatever was refused and whose time has come."""
        topics = {topic: kind for topic, (kind, due) in self._refused.items() if due <= now}
        held = {kind for kind, due in self._held.items() if due <= now}
        for topic in topics:
            del self._refused[topic]
        for kind in held:
            del self._held[kind]
        for kind in held.union(topics.values()):
            self._rewind(kind)

    def _rewind(self, kind: MessageClass) -> None:
        self._ready[kind].clear()
        self._after[kind] = 0
        self._more[kind] = True

    def _busy(self, seq: int) -> bool:
        return seq in self._in_flight or seq in self._settling
