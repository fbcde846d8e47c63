"""Readings that wait to be scored: bounded, in order, and taken in batches. Pure."""

from collections import deque
from collections.abc import Container, Sequence
from itertools import groupby

from agent.errors import TooMany
from agent.pipelines.entries import Entry, Single, join
from agent.pipelines.spec import PipelineLimits
from agent.types import Rows


class Waiting:
    """Entries by stream, in the order of arrival.

    Attributes:
        rows: how many wait, over all streams.
    """

    def __init__(self, limits: PipelineLimits) -> None:
        self.rows = 0
        self._limits = limits
        self._streams: dict[str, deque[Entry]] = {}

    def __bool__(self) -> bool:
        return bool(self._streams)

    @property
    def names(self) -> set[str]:
        """Streams that have entries."""
        return set(self._streams)

    def add(self, stream: str, entry: Entry, *, retry_after_s: float = 1.0) -> None:
        """Let it wait its turn.

        Raises:
            TooMany: the bound is reached; nothing was added.
        """
        rows = entry.rows
        if self.rows + rows > self._limits.waiting_rows and self._streams:
            raise TooMany(
                f"{self.rows} rows wait to be scored, at most {self._limits.waiting_rows} may",
                where=stream,
                hint="Send them again a little later",
                retry_after_s=retry_after_s,
            )
        self._streams.setdefault(stream, deque()).append(entry)
        self.rows += rows

    def take(self, but: Container[str] = ()) -> dict[str, list[Entry]]:
        """One batch of each stream that has any, within the bound of a batch's rows.

        Args:
            but: streams that are left for another time.
        """
        batches = {n: self._batch(queue) for n, queue in self._streams.items() if n not in but}
        self._streams = {name: queue for name, queue in self._streams.items() if queue}
        self.rows -= sum(entry.rows for batch in batches.values() for entry in batch)
        return batches

    def _batch(self, queue: deque[Entry]) -> list[Entry]:
        batch = [queue.popleft()]
        rows = batch[0].rows
        while queue and rows + queue[0].rows <= self._limits.batch_rows:
            rows += queue[0].rows
            batch.append(queue.popleft())
        return batch


def coalesce(entries: Sequence[Entry]) -> tuple[list[Rows | Single], list[int]]:
    """What is to be scored, and for each entry the number of the item that stands for it.

    Neighbouring tables of the same sensors become one, except those that want their own receipt.
    """
    items: list[Rows | Single] = []
    owners: list[int] = []
    for key, group in groupby(entries, key=_joinable):
        found = list(group)
        tables = [entry.item for entry in found if isinstance(entry.item, Rows)]
        if key is not None and len(found) > 1:
            owners += [len(items)] * len(found)
            items.append(join(tables))
        else:
            owners += range(len(items), len(items) + len(found))
            items += [entry.item for entry in found]
    return items, owners


def _joinable(entry: Entry) -> tuple[str, ...] | None:
    if entry.exact or not isinstance(entry.item, Rows):
        return None
    return entry.item.sensors
