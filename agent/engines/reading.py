"""One answer's way through a generator: what is read, and which token comes next.

Whatever has the runtime compute is one turn, or a part of one, so that several conversations advance
side by side.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import first_line
from agent.engines.conversations import Slot, Tokens, common
from agent.engines.sampling import Sampler
from agent.engines.turns import Turns
from agent.errors import BadPayload

#: How the runtime begins to say that a grammar, not the model, has failed.
GRAMMAR = ("Error committing tokens", "Error computing mask")

PART = 128  # tokens of a prompt that are read in one turn


class Reader:
    """Has a generator read tokens, each part in its turn."""

    def __init__(self, slot: Slot, turns: Turns) -> None:
        self._slot = slot
        self._turns = turns

    def rewind(self, prompt: Tokens) -> int:
        """Go back to where the prompt differs from what was seen; tokens that need not be read.

        A generator with a grammar has always to go back: that is what begins the grammar anew. It is
        not known to have seen more than a prompt, since its answer is the runtime's.
        """
        slot = self._slot
        shared = min(common(slot.tokens, prompt), len(prompt) - 1)
        if shared < len(slot.tokens) or (slot.rules is not None and shared):
            with self._turns.turn():
                slot.generator.rewind_to(shared)
            slot.tokens = slot.tokens[:shared]
        return shared

    def read(self, prompt: Tokens, cancelled: Callable[[], bool]) -> bool:
        """Read what has not been seen of a prompt; False when the caller went away meanwhile."""
        slot = self._slot
        while len(slot.tokens) < len(prompt):
            if cancelled():
                return False
            part = prompt[len(slot.tokens) :][:PART]
            with self._turns.turn(), followed():
                slot.generator.append_tokens(np.ascontiguousarray(part))
            slot.tokens = prompt[: len(slot.tokens) + len(part)]
        return True

    def logits(self) -> NDArray[np.float32]:
        """Of the next token, float32 [vocabulary]."""
        found: NDArray[np.float32] = self._slot.generator.get_logits()
        return found.reshape(-1)

    def advance(self, token: int | None) -> NDArray[np.float32]:
        """Read a token, None for nothing, and give the logits of the next one."""
        slot = self._slot
        if token is None:
            return self.logits()
        read = np.array([token], np.int32)
        with self._turns.turn():
            slot.generator.append_tokens(read)
            logits = self.logits()
        slot.tokens = np.append(slot.tokens, read)
        return logits

    def guided(self) -> tuple[int, NDArray[np.float32]]:
        """The next token as the runtime chooses it, and the logits that it chose from."""
        with self._turns.turn(), followed():
            logits = self.logits()
            self._slot.generator.generate_next_token()
            return int(self._slot.generator.get_next_tokens()[0]), logits


@contextmanager
def followed() -> Iterator[None]:
    """A grammar that fails is the client's: it asked for one that nothing can be an instance of."""
    try:
        yield
    except Exception as error:
        if str(error).startswith(GRAMMAR):
            message = f"the constraint cannot be followed: {first_line(error)}"
            raise BadPayload(message, hint="Ask for something that an answer can be") from error
        raise


class Free:
    """Tokens of our own choice."""

    def __init__(self, reader: Reader, sampler: Sampler) -> None:
        self._reader = reader
        self._sampler = sampler
        self._last: int | None = None

    def next(self) -> tuple[int, NDArray[np.float32]]:
        logits = self._reader.advance(self._last)
        self._last = self._sampler.choose(logits)
        return self._last, logits


class Guided:
    """Tokens as a grammar allows."""

    def __init__(self, reader: Reader) -> None:
        self.next = reader.guided
