"""Which loaded models fit into memory together. Pure: it says who must go, and unloads nobody."""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.errors import OverMemory

K = TypeVar("K", bound=Hashable)

MIB = 1 << 20


@dataclass(slots=True)
class Share:
    """What one model takes of the budget.

    Attributes:
        size: bytes.
        used: when it was last used, on a monotonic clock, seconds.
        pinned: it is never asked to go.
    """

    size: int
    used: float
    pinned: bool = False


class Pool(Generic[K]):
    """The account of the memory budget.

    Attributes:
        budget: for all models together, bytes.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self._shares: dict[K, Share] = {}

    @property
    def taken(self) -> int:
        """By all models, bytes."""
        return sum(share.size for share in self._shares.values())

    def __contains__(self, key: K) -> bool:
        return key in self._shares

    def admit(self, key: K, size: int, now: float, *, replaced: Iterable[K] = ()) -> list[K]:
        """Enter a model that is about to be loaded; those that must be unloaded for it first.

        They are the unpinned ones that were used longest ago, and are struck off by this. The model
        itself is pinned until `settle`.

        Args:
            key: of the model.
            size: that it is said to take, bytes.
            now: on the monotonic clock, seconds.
            replaced: models that leave when this one is loaded; they are neither counted nor chosen.

        Raises:
            OverMemory: it does not fit, whoever goes; nothing has changed.
        """
        leaving = self._leaving(key, size, {key, *replaced})
        for other in leaving:
            del self._shares[other]
        self._shares[key] = Share(size, now, pinned=True)
        return leaving

    def settle(self, key: K, size: int, *, pinned: bool) -> None:
        """A model is loaded: what it turned out to take, if that is more, and whether it may go."""
        share = self._shares[key]
        share.size = max(share.size, size)
        share.pinned = pinned

    def use(self, key: K, now: float) -> None:
        """Note that a model was used."""
        share = self._shares.get(key)
        if share is not None:
            share.used = now

    def release(self, keys: Iterable[K]) -> None:
        """Strike models off that are no longer loaded. Idempotent."""
        for key in keys:
            self._shares.pop(key, None)

    def _leaving(self, key: K, size: int, apart: set[K]) -> list[K]:
        others = {other: share for other, share in self._shares.items() if other not in apart}
        excess = size + sum(share.size for share in others.values()) - self.budget
        leaving: list[K] = []
        movable = (other for other, share in others.items() if not share.pinned)
        for other in sorted(movable, key=lambda k: others[k].used):
            if excess <= 0:
                break
            leaving.append(other)
            excess -= others[other].size
        if excess > 0:
            raise self._refusal(key, size, excess)
        return leaving

    def _refusal(self, key: K, size: int, excess: int) -> OverMemory:
        return OverMemory(
            f"needs {_mib(size)} MiB, which is {_mib(excess)} MiB more than the budget of "
            f"{_mib(self.budget)} MiB has beside the models that must stay",
            where=str(key),
            hint="Raise memory_mib of [serving], or take models from preload of [models]",
        )


def _mib(size: int) -> int:
    return -(-size // MIB)
