"""Whether joining requests gains anything, and leaves the answers as they are."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from agent.errors import EngineFailed
from agent.registry.measuring import BATCH_ROWS, batch_gain
from agent.types import Array, Tensors

EXAMPLE = {"x": np.arange(4, dtype=np.float32).reshape(1, 4)}
CALL_S = 0.002


def model(answer: Callable[[Array], Array]) -> Callable[[Tensors], Mapping[str, Array]]:
    """Takes the same time for any number of rows."""

    def run(tensors: Tensors) -> Mapping[str, Array]:
        time.sleep(CALL_S)
        return {"y": answer(tensors["x"])}

    return run


def test_a_model_that_looks_at_each_row_alone_gains() -> None:
    assert batch_gain(model(np.negative), EXAMPLE, CALL_S) > 2


@pytest.mark.parametrize(
    "answer",
    [
        lambda x: x - x.mean(),
        lambda x: np.cumsum(x, axis=0),
        lambda x: x[::-1],
        lambda x: x[:1],
        lambda x: x.sum(axis=0),
    ],
    ids=["normalises", "remembers", "turns", "takes one", "adds up"],
)
def test_one_that_looks_at_its_rows_together_is_never_batched(
    answer: Callable[[Array], Array],
) -> None:
    assert batch_gain(model(answer), EXAMPLE, CALL_S) == 0


def test_one_that_cannot_take_several_is_never_batched() -> None:
    def picky(x: Array) -> Array:
        if len(x) > 1:
            raise EngineFailed("one at a time")
        return x

    assert batch_gain(model(picky), EXAMPLE, CALL_S) == 0


def test_what_is_not_worth_it_is_not_measured() -> None:
    def never(tensors: Tensors) -> Mapping[str, Array]:
        raise AssertionError

    assert batch_gain(never, EXAMPLE, 5e-6) == 0
    assert batch_gain(never, EXAMPLE, 3.0) == 0
    assert batch_gain(never, None, CALL_S) == 0
    assert BATCH_ROWS > 1
