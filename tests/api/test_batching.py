"""Requests that come together are answered together, each with its own answer."""

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.api.batching import Batcher, BatchSettings, batch_settings, batch_size, split
from agent.errors import BadModel, EngineFailed
from agent.types import Array, Tensors, TensorSpec
from tests.fakes.engine import FakeManifest


def request(*values: float) -> dict[str, Array]:
    return {"x": np.array(values, np.float32).reshape(-1, 1)}


class Model:
    """Negates; its first run waits until it is let go."""

    def __init__(self, fail: Callable[[Array], bool] = lambda _: False) -> None:
        self.sizes: list[int] = []
        self.go = asyncio.Event()
        self._fail = fail

    async def run(self, tensors: Tensors) -> dict[str, Array]:
        self.sizes.append(len(tensors["x"]))
        await self.go.wait()
        if self._fail(tensors["x"]):
            raise EngineFailed("the runtime failed")
        return {"y": -tensors["x"]}


async def gathered(model: Model, requests: list[Tensors], settings: BatchSettings) -> list[Any]:
    batcher = Batcher(settings, model.run)
    tasks = [asyncio.create_task(batcher.run(requests[0]))]
    while not model.sizes:  # noqa: ASYNC110
        await asyncio.sleep(0)
    tasks += [asyncio.create_task(batcher.run(each)) for each in requests[1:]]
    await asyncio.sleep(0)
    model.go.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_comes_while_the_model_runs_is_one_run() -> None:
    model = Model()
    requests = [request(1), request(2), request(3, 4), request(5)]
    results = await gathered(model, requests, BatchSettings())
    assert model.sizes == [1, 4]
    for each, result in zip(requests, results, strict=True):
        np.testing.assert_array_equal(result["y"], -each["x"])


async def test_a_run_has_no_more_rows_than_it_may() -> None:
    model = Model()
    requests = [request(*range(rows)) for rows in (1, 2, 2, 3, 9)]
    results = await gathered(model, requests, BatchSettings(most=4))
    assert model.sizes == [1, 4, 3, 9], "one that is larger by itself runs alone"
    assert [len(result["y"]) for result in results] == [1, 2, 2, 3, 9]


async def test_what_does_not_fit_together_is_not_joined() -> None:
    model = Model()
    wide = {"x": np.zeros((1, 7), np.float32)}
    results = await gathered(model, [request(1), request(2), wide, request(3)], BatchSettings())
    assert model.sizes == [1, 2, 1]
    assert [result["y"].shape for result in results] == [(1, 1), (1, 1), (1, 7), (1, 1)]


async def test_one_request_fails_no_other() -> None:
    model = Model(lambda x: bool((x == 3).any()))
    results = await gathered(model, [request(n) for n in range(6)], BatchSettings())
    assert [isinstance(result, EngineFailed) for result in results] == [n == 3 for n in range(6)]


async def test_one_that_leaves_takes_no_place_in_a_run() -> None:
    model = Model()
    batcher = Batcher(BatchSettings(), model.run)
    first = asyncio.create_task(batcher.run(request(1)))
    await asyncio.sleep(0.01)
    second, third = (asyncio.create_task(batcher.run(request(n))) for n in (2, 3))
    await asyncio.sleep(0)
    second.cancel()
    model.go.set()
    assert (await third)["y"].item() == -3
    assert (await first)["y"].item() == -1
    assert model.sizes == [1, 1]


async def test_the_most_urgent_are_in_the_next_run() -> None:
    model = Model()
    batcher = Batcher(BatchSettings(most=2), model.run)
    first = asyncio.create_task(batcher.run(request(0)))
    await asyncio.sleep(0.01)
    ended: list[int] = []

    async def ask(level: int) -> None:
        await batcher.run(request(level), level)
        ended.append(level)

    tasks = [asyncio.create_task(ask(level)) for level in (9, 2, 1, 2)]
    await asyncio.sleep(0)
    model.go.set()
    await asyncio.gather(first, *tasks)
    assert ended[:2] == [2, 1] or ended[:2] == [1, 2]
    assert ended[-1] == 9


async def test_a_request_waits_for_others_where_the_model_asks_for_it() -> None:
    model = Model()
    model.go.set()
    batcher = Batcher(BatchSettings(delay_s=0.2, preferred=(3,)), model.run)
    await asyncio.gather(*(batcher.run(request(n)) for n in range(3)))
    assert model.sizes == [3]


# Decisions


@pytest.mark.parametrize(
    ("waiting", "settings", "expected"),
    [
        ([1, 1, 1], BatchSettings(), 3),
        ([100], BatchSettings(most=4), 1),
        ([1] * 7, BatchSettings(preferred=(2, 4)), 4),
        ([1] * 3, BatchSettings(preferred=(2, 4)), 2),
        ([1], BatchSettings(preferred=(2, 4)), 1),
        ([3, 3, 3], BatchSettings(preferred=(4,)), 3),
    ],
)
def test_sizes_of_runs(waiting: list[int], settings: BatchSettings, expected: int) -> None:
    assert batch_size(waiting, settings) == expected


@given(
    st.lists(st.integers(1, 20), min_size=1),
    st.integers(1, 64),
    st.lists(st.integers(1, 64), max_size=4),
)
def test_a_run_takes_at_least_one_and_never_too_many(
    waiting: list[int], most: int, preferred: list[int]
) -> None:
    settings = BatchSettings(most, preferred=tuple(sorted(n for n in preferred if n <= most)))
    count = batch_size(waiting, settings)
    assert 1 <= count <= len(waiting)
    assert count == 1 or sum(waiting[:count]) <= most


def test_a_model_that_does_not_answer_row_by_row_is_caught() -> None:
    with pytest.raises(EngineFailed, match="row by row"):
        split({"y": np.zeros((1, 3))}, [1, 1])


def manifest(shape: tuple[int, ...] = (-1, 4), **parameters: Any) -> FakeManifest:
    spec = TensorSpec("x", "FP32", shape)
    return FakeManifest((spec,), (spec,), parameters=parameters)


def test_models_are_batched_where_it_gains_or_where_they_ask() -> None:
    assert batch_settings(manifest(), 4.0) == BatchSettings()
    assert batch_settings(manifest(), 1.0) is None
    assert batch_settings(manifest((4, 4)), 4.0) is None
    assert batch_settings(manifest((4, 4), batching=True), 4.0) is None
    assert batch_settings(manifest(batching=False), 4.0) is None
    asked = {"most": 8, "delay_ms": 2, "preferred": [8, 4]}
    assert batch_settings(manifest(batching=asked), 0.0) == BatchSettings(8, 0.002, (4, 8))


@pytest.mark.parametrize(
    "table",
    [{"most": 0}, {"most": 5000}, {"delay_ms": -1}, {"preferred": [99]}, {"size": 3}, "yes", 3],
)
def test_what_makes_no_sense_is_refused(table: Any) -> None:
    with pytest.raises(BadModel):
        batch_settings(manifest(batching=table), 4.0)
