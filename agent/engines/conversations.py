"""What the runtime remembers of conversations, so that a new turn does not begin at the beginning.

A slot is a generator of the runtime with the keys and values of the tokens that it has seen, which is
most of what a conversation costs in memory. There are so many and no more. A new request takes the
slot that has seen the longest part of its prompt, or a new one, or the one that was used least lately.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import TooMany

MAX_WAITING = 32  # requests for a slot
POLL_S = 0.1  # how soon a caller who went away gives its place up
SMALLEST = 256  # tokens of a slot: smaller ones would be made again at the next turn
FEW = 64  # tokens that are read again sooner than a new slot is made

Tokens = NDArray[np.int32]

#: Rules of a generator that is of no use to another request; its slot is not kept.
ONCE: object = object()


@dataclass(eq=False)
class Slot:
    """A generator and what it has seen.

    Attributes:
        generator: the runtime's.
        capacity: tokens that it has room for.
        tokens: what it has seen, int32 [n].
        prompt: how many of these were its last request's; the rest is the answer.
        rules: what the generator holds its answers to, fixed when it was made; None for nothing.
    """

    generator: Any
    capacity: int
    tokens: Tokens = field(default_factory=lambda: np.empty(0, np.int32))
    prompt: int = 0
    rules: object = None


def common(one: Tokens, other: Tokens) -> int:
    """How many tokens two sequences begin with that are the same."""
    length = min(len(one), len(other))
    different = np.flatnonzero(one[:length] != other[:length])
    return int(different[0]) if len(different) else length


def choose(
    idle: Sequence[Slot], prompt: Tokens, needed: int, *, may_make: bool, rules: object = None
) -> Slot | None:
    """The idle slot to go on with; None for a new one.

    The next turn of a conversation begins with all of the prompt before it. The answer may be read
    otherwise than it was written: a model need not write the tokens that a tokenizer would choose.

    Args:
        idle: slots, the one that was used least lately first.
        prompt: tokens that must be seen.
        needed: room for the prompt and its answer.
        may_make: there is room for one more slot.
        rules: that the answer is held to.
    """
    fitting = [slot for slot in idle if slot.capacity >= needed and slot.rules == rules]
    if not fitting:
        return None
    best = max(fitting, key=lambda slot: common(slot.tokens, prompt))
    shared = common(best.tokens, prompt)
    if shared >= max(best.prompt, 1):
        return best
    cheap = next((slot for slot in fitting if len(slot.tokens) < FEW), None)
    return cheap or (None if may_make else fitting[0])


def roomy(needed: int, window: int) -> int:
    """The capacity of a new slot: a power of two, so that the next turns fit as well."""
    return min(window, max(SMALLEST, 1 << (2 * needed - 1).bit_length()))


class Slots:
    """The slots of a model. Safe from several threads; who waits longest is served first."""

    def __init__(self, make: Callable[[int], Any], most: int, window: int) -> None:
        self._make = make
        self._most = most
        self._window = window
        self._idle: list[Slot] = []
        self._used = 0
        self._changed = threading.Condition()
        self._tickets: deque[object] = deque()

    def take(
        self,
        prompt: Tokens,
        needed: int,
        cancelled: Callable[[], bool],
        *,
        rules: object = None,
        make: Callable[[int], Any] | None = None,
    ) -> Slot | None:
        """A slot, when there is one; None when the caller went away meanwhile.

        Args:
            prompt: tokens that must be seen.
            needed: room for the prompt and its answer, tokens.
            cancelled: whether the caller went away.
            rules: that the answer is held to; a slot with others is of no use.
            make: makes a generator of so many tokens that holds to them.

        Raises:
            TooMany: too many wait already.
        """
        with self._changed:
            if not self._wait(cancelled):
                return None
            slot = choose(self._idle, prompt, needed, may_make=self._room(), rules=rules)
            if slot is not None:
                self._idle.remove(slot)
            elif not self._room():
                del self._idle[0]
            self._used += 1
        if slot is not None:
            return slot
        try:
            capacity = roomy(needed, self._window)
            return Slot((make or self._make)(capacity), capacity, rules=rules)
        except BaseException:
            self.give(None)
            raise

    def give(self, slot: Slot | None) -> None:
        """Give a slot back; None for one that is of no more use."""
        with self._changed:
            self._used -= 1
            if slot is not None and slot.rules is not ONCE:
                self._idle.append(slot)
            self._changed.notify_all()

    def clear(self) -> None:
        """Forget every conversation that is not under way."""
        with self._changed:
            self._idle.clear()

    def _room(self) -> bool:
        return self._used + len(self._idle) < self._most

    def _wait(self, cancelled: Callable[[], bool]) -> bool:
        """Whether the caller is still there when its turn comes. Called with the lock held."""
        if len(self._tickets) >= MAX_WAITING:
            raise TooMany(f"{MAX_WAITING} requests wait for this model already")
        ticket = object()
        self._tickets.append(ticket)
        try:
            while self._used >= self._most or self._tickets[0] is not ticket:
                if cancelled():
                    return False
                self._changed.wait(POLL_S)
            return True
        finally:
            self._tickets.remove(ticket)
            self._changed.notify_all()
