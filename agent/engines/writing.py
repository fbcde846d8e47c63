"""How an answer is written: token by token, in bursts.

Tokens that a small model writes within one frame of a screen are one turn of the processor and travel
as one piece, which nobody sees and which spares two processes and a client a wake-up for each. A model
whose tokens take longer writes one a burst; the first token of an answer always goes alone.
"""

import time
from collections.abc import Callable, Collection, Iterator
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.engines.generation import Chosen, GenerationRequest, Likely, Piece
from agent.engines.sampling import likeliest
from agent.engines.stops import Stops
from agent.engines.turns import Turns

BURST_S = 1 / 60  # at most, unless one token takes longer

Reason = Literal["stop", "length"]


class Chooser(Protocol):
    """Chooses tokens, one after the other."""

    def next(self) -> tuple[int, NDArray[np.float32]]:
        """The next token, and the logits that it was chosen from, float32 [vocabulary]."""
        ...


class Words(Protocol):
    """What tokens mean."""

    @property
    def ends(self) -> Collection[int]:
        """Tokens that end an answer."""
        ...

    def text(self, token: int) -> str:
        """The text of one token."""
        ...

    def raw(self, token: int) -> bytes | None:
        """The bytes of a token whose text does not say them; None for others."""
        ...

    def stream(self) -> Any:
        """A decoder of an answer, token by token, that gives whole characters."""
        ...


class Writing:
    """One answer.

    Attributes:
        count: tokens so far, with the one that ended it.
        reason: why it ended; None while it has not, and when the caller went away.
    """

    def __init__(
        self,
        request: GenerationRequest,
        chooser: Chooser,
        words: Words,
        turns: Turns,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.count = 0
        self.reason: Reason | None = None
        self._top = request.top
        self._chooser = chooser
        self._words = words
        self._turns = turns
        self._clock = clock
        self._stops = Stops(request.stop)
        self._stream = words.stream()

    def pieces(self, limit: int, cancelled: Callable[[], bool]) -> Iterator[Piece]:
        """Write on to an end, or to so many tokens in all, or until the caller goes away."""
        seconds = 0.0
        while self.reason is None and not cancelled():
            with self._turns.turn():
                piece = self._burst(limit, seconds)
            if piece.text or piece.tokens:
                yield piece
            seconds = BURST_S
        if cancelled():
            self.reason = None

    def _burst(self, limit: int, seconds: float) -> Piece:
        """As many tokens as there is time for, at least one."""
        began, texts, chosen = self._clock(), list[str](), list[Chosen]()
        while self.reason is None:
            texts.append(self._token(limit, chosen))
            spent = self._clock() - began
            if spent + spent / len(texts) >= seconds:
                break
        return Piece("".join(texts), tuple(chosen))

    def _token(self, limit: int, chosen: list[Chosen]) -> str:
        """Write one; the text that may be shown now."""
        if self.count >= limit:
            self.reason = "length"
            return self._stops.rest()
        token, logits = self._chooser.next()
        self.count += 1
        if token in self._words.ends:
            self.reason = "stop"
            return self._stops.rest()
        if self._top is not None:
            chosen.append(self._chosen(logits, token, self._top))
        text = self._stops.feed(self._stream.decode(token))
        if self._stops.hit:
            self.reason = "stop"
        return text

    def _chosen(self, logits: NDArray[np.float32], token: int, top: int) -> Chosen:
        logprob, found = likeliest(logits, token, top)
        words = self._words
        likely = tuple(Likely(words.text(i), value, words.raw(i)) for i, value in found)
        return Chosen(words.text(token), logprob, likely, words.raw(token))
