"""Answers are written in bursts: what comes within a frame of a screen travels together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.engines.generation import Cancellation, GenerationRequest, not_cancelled
from agent.engines.turns import Turns
from agent.engines.writing import BURST_S, Writing

END = 0


class Model:
    """Writes a, b, c, …, each of which takes so many seconds; then it ends."""

    def __init__(self, seconds: float, tokens: int = 26) -> None:
        self.now = 0.0
        self.ends = {END}
        self._seconds = seconds
        self._tokens = iter([*range(1, tokens + 1), END])

    def next(self) -> tuple[int, NDArray[np.float32]]:
        self.now += self._seconds
        return next(self._tokens), np.zeros(27, np.float32)

    def text(self, token: int) -> str:
        return chr(ord("a") + token - 1)

    def raw(self, token: int) -> bytes | None:
        return bytes([token]) if token == 0 else None

    def stream(self) -> "Model":
        return self

    def decode(self, token: int) -> str:
        return self.text(token)


def writing(model: Model, **request: Any) -> Writing:
    turns = Turns()
    return Writing(GenerationRequest(text="", **request), model, model, turns, lambda: model.now)


def pieces(found: Writing, limit: int = 100) -> list[str]:
    return [piece.text for piece in found.pieces(limit, not_cancelled)]


def test_the_first_token_goes_alone_and_then_what_fits_into_a_frame() -> None:
    found = writing(Model(BURST_S / 3.5, tokens=8))
    assert pieces(found) == ["a", "bcd", "efg", "h"]
    assert (found.reason, found.count) == ("stop", 9)


def test_tokens_that_take_longer_than_a_frame_go_one_by_one() -> None:
    assert pieces(writing(Model(2 * BURST_S, tokens=4))) == ["a", "b", "c", "d"]


def test_a_bound_and_a_stop_text_end_a_burst() -> None:
    bounded = writing(Model(0.001))
    assert "".join(pieces(bounded, limit=5)) == "abcde"
    assert (bounded.reason, bounded.count) == ("length", 5)
    stopped = writing(Model(0.001), stop=("de",))
    assert "".join(pieces(stopped)) == "abc"
    assert (stopped.reason, stopped.count) == ("stop", 5)


def test_an_answer_of_no_tokens_ends_at_once() -> None:
    found = writing(Model(0.001))
    assert pieces(found, limit=0) == []
    assert found.reason == "length"


def test_probabilities_of_a_burst_come_in_their_order() -> None:
    found = writing(Model(BURST_S / 3.5, tokens=8), top=0)
    tokens = [[chosen.token for chosen in p.tokens] for p in found.pieces(100, not_cancelled)]
    assert tokens == [["a"], ["b", "c", "d"], ["e", "f", "g"], ["h"]]


def test_who_goes_away_gets_no_end() -> None:
    found, cancellation = writing(Model(0.0)), Cancellation()
    parts = found.pieces(100, cancellation)
    next(parts)
    cancellation.cancel()
    assert list(parts) == []
    assert found.reason is None


def test_two_answers_take_turns_of_a_frame() -> None:
    """Nobody waits longer than for a burst of each of the others."""
    turns, written = Turns(), list[str]()

    def answers(model: Model) -> Iterator[str]:
        writer = Writing(GenerationRequest(text=""), model, model, turns, lambda: model.now)
        return (piece.text for piece in writer.pieces(9, not_cancelled))

    one, other = answers(Model(BURST_S / 3.5)), answers(Model(BURST_S / 3.5))
    for _ in range(3):
        written += [next(one), next(other)]
    assert written == ["a", "a", "bcd", "bcd", "efg", "efg"]


@pytest.mark.parametrize("depth", [1, 3])
def test_turns_inside_a_turn_are_part_of_it(depth: int) -> None:
    turns = Turns()
    with turns.turn():
        for _ in range(depth):
            with turns.turn():
                assert not turns.contended
    with turns.turn():
        pass
