"""Requests to the same model that come together are answered together.

A batch forms by itself: whatever comes while a model runs makes up its next run. Only where the
model's manifest asks for it does a request wait for others to come.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agent.api.ports import ManifestPort
from agent.api.urgency import USUAL_LEVEL
from agent.errors import BadModel, EngineFailed
from agent.types import Array, Tensors, TensorSpec

#: What a model's manifest may say, in its parameters: [parameters.batching].
TABLE = "batching"

WORTHWHILE_GAIN = 1.25  # rows answered per second in a batch over one at a time, at least


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """How batches of a model form.

    Attributes:
        most: rows of one run.
        delay_s: how long a request waits for others while the model is idle, seconds.
        preferred: numbers of rows that the model runs best with; empty for any.
    """

    most: int = 64
    delay_s: float = 0.0
    preferred: tuple[int, ...] = ()


def batch_settings(manifest: ManifestPort, gain: float) -> BatchSettings | None:
    """How batches of a model form; None where it cannot take several requests at once, or shall not.

    Args:
        manifest: its inputs and outputs must all have a free first size.
        gain: how many times more rows per second it answers in a batch, as measured.

    Raises:
        BadModel: what its manifest says about batches makes no sense.
    """
    table = manifest.parameters.get(TABLE)
    if table is False or not all(map(_free, (*manifest.inputs, *manifest.outputs))):
        return None
    if table is None:
        return BatchSettings() if gain >= WORTHWHILE_GAIN else None
    return _settings(table)


def _free(spec: TensorSpec) -> bool:
    return bool(spec.shape) and spec.shape[0] == -1 and spec.dtype != "BYTES"


def _settings(table: Any) -> BatchSettings:
    table = {} if table is True else table
    known = {"most", "delay_ms", "preferred"}
    if not isinstance(table, Mapping) or not known.issuperset(table):
        raise BadModel(f"must be a table of {', '.join(sorted(known))}", where=TABLE)
    most, delay_ms = table.get("most", 64), table.get("delay_ms", 0)
    preferred = table.get("preferred", [])
    if not (_whole(most, 1, 4096) and _number(delay_ms, 1000)):
        raise BadModel("most is 1 to 4096 rows, delay_ms 0 to 1000", where=TABLE)
    if not (isinstance(preferred, list) and all(_whole(n, 1, most) for n in preferred)):
        raise BadModel("preferred is a list of numbers of rows, none above most", where=TABLE)
    return BatchSettings(most, delay_ms / 1000, tuple(sorted(preferred)))


def _whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _number(value: Any, most: float) -> bool:
    return type(value) in {int, float} and 0 <= value <= most


def batch_size(waiting: Sequence[int], settings: BatchSettings) -> int:
    """How many of those that wait, by their rows and in their order, make up the next run.

    As many as fit, but no more than reach the largest preferred size that can be reached.
    """
    totals: list[int] = []
    for rows in waiting:
        totals.append(rows + (totals[-1] if totals else 0))
    fitting = sum(total <= settings.most for total in totals) or 1
    for size in reversed(settings.preferred):
        if size in totals[:fitting]:
            return totals.index(size) + 1
    return fitting


def join(parts: Sequence[Tensors]) -> dict[str, Array]:
    """The tensors of several requests as those of one."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each request's part of the outputs.

    Raises:
        EngineFailed: the model does not give a row for each row.
    """
    total = sum(rows)
    if any(not array.shape or array.shape[0] != total for array in outputs.values()):
        raise EngineFailed("the model does not answer row by row")
    edges = np.cumsum(rows)[:-1]
    cut = {name: np.split(array, edges) for name, array in outputs.items()}
    return [{name: parts[i] for name, parts in cut.items()} for i in range(len(rows))]


@dataclass(slots=True)
class _Waiting:
    tensors: Tensors
    rows: int
    form: tuple[Any, ...]
    level: int
    told: "asyncio.Future[dict[str, Array]]"


#: Runs a model on tensors, beside the event loop or in it.
Execute = Callable[[Tensors], Awaitable[dict[str, Array]]]


class Batcher:
    """Gathers the requests to one model. Used from one event loop.

    Args:
        settings: how batches form.
        execute: runs the model.
        note: is told of each run, and of how many requests.
    """

    def __init__(
        self,
        settings: BatchSettings,
        execute: Execute,
        note: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._note = note
        self._settings = settings
        self._execute = execute
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    async def run(self, tensors: Tensors, level: int = USUAL_LEVEL) -> dict[str, Array]:
        """Outputs for one request; a lower level goes first. Raises as the model's run does."""
        first = next(iter(tensors.values()))
        form = tuple((name, a.dtype, a.shape[1:]) for name, a in tensors.items())
        rows = {a.shape[0] for a in tensors.values()}
        if len(rows) != 1:  # let the model say what it thinks of that
            return await self._execute(tensors)
        told: asyncio.Future[dict[str, Array]] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(tensors, first.shape[0], form, level, told))
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="batches")
        return await told

    async def _work(self) -> None:
        """Run until nobody waits any more."""
        try:
            if self._settings.delay_s and not self._enough():
                await asyncio.sleep(self._settings.delay_s)
            while self._waiting:
                await self._answer(self._take())
        finally:
            self._task = None

    def _enough(self) -> bool:
        wanted = self._settings.preferred or (self._settings.most,)
        return sum(item.rows for item in self._waiting) >= wanted[-1]

    def _take(self) -> list[_Waiting]:
        """The next run's requests: of one form, the most urgent first; those that left are not."""
        here = sorted(
            (item for item in self._waiting if not item.told.done()), key=lambda item: item.level
        )
        alike = [item for item in here if item.form == here[0].form]
        chosen = alike[: batch_size([item.rows for item in alike], self._settings)] if here else []
        taken = set(map(id, chosen))
        self._waiting = [item for item in here if id(item) not in taken]
        return chosen

    async def _answer(self, chosen: list[_Waiting]) -> None:
        if not chosen:
            return
        self._note(len(chosen))
        try:
            if len(chosen) == 1:
                results = [await self._execute(chosen[0].tensors)]
            else:
                outputs = await self._execute(join([item.tensors for item in chosen]))
                results = split(outputs, [item.rows for item in chosen])
        except Exception as error:  # noqa: BLE001 (whoever waits must be told, whatever it was)
            await self._failed(chosen, error)
            return
        for item, result in zip(chosen, results, strict=True):
            if not item.told.done():
                item.told.set_result(result)

    async def _failed(self, chosen: list[_Waiting], error: Exception) -> None:
        """One request must not fail another: what failed together is tried alone."""
        if len(chosen) > 1 and isinstance(error, EngineFailed):
            for item in chosen:
                await self._answer([item])
            return
        for item in chosen:
            if not item.told.done():
                item.told.set_exception(error)
