"""Inference: from a request's bytes to the answer's, in the event loop or in a thread."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import NamedTuple, TypeAlias, TypeVar

from agent.api.admission import Admission
from agent.api.batching import Batcher
from agent.api.oip.request import Prepared
from agent.api.oip.shared import Shared
from agent.api.ports import ModelPort, ModelsPort
from agent.api.served import INLINE_BELOW_S, InferenceMetrics, Reply, ServedModel
from agent.api.urgency import USUAL, USUAL_LEVEL, Urgency
from agent.errors import AgentError, NotReady, TooSlow
from agent.types import Array, ModelRef, Tensors

MAX_SERVED = 64  # models whose prepared requests are kept
MAX_SWAPS = 5  # of a model during one request


T = TypeVar("T")

#: What is left to be done: a run on tensors, or the rest of one that is under way.
Work: TypeAlias = Tensors | Callable[[], dict[str, Array]]


class Call(NamedTuple):
    """An inference that is asked for.

    Attributes:
        name: of the model.
        version: None for the active one.
        body: JSON, then binary tensors.
        header_length: bytes of JSON; None when all of it is, 0 for one raw tensor.
        shared: the caller's shared memory.
    """

    name: str
    version: str | None
    body: bytes
    header_length: int | None
    shared: Shared


class Inference:
    """Runs loaded models on requests.

    Attributes:
        metrics: what is counted for each model.
    """

    def __init__(self, models: ModelsPort, admission: Admission, metrics: InferenceMetrics) -> None:
        self.metrics = metrics
        self._models = models
        self._admission = admission
        self._served: dict[tuple[str, str], ServedModel] = {}
        self._batchers: dict[ModelRef, tuple[ServedModel, Batcher]] = {}

    def infer(self, call: Call) -> Reply | Awaitable[Reply]:
        """Run a model on a request of the Open Inference Protocol.

        Returns:
            The reply at once for a short model that is loaded, else an awaitable of it.

        Raises:
            BadPayload, BadTensor: the request is not one that the model can answer.
            TooMany: too many requests are under way.
            EngineFailed: the runtime failed.
        """
        model = self._models.peek(call.name, call.version)
        if model is None:
            return self._infer_cold(call)
        started = perf_counter()
        served = self._served_as(model)
        try:
            prepared = served.prepare(call.body, call.header_length)
            tensors = prepared.tensors(call.body, call.shared)
            if served.inline and served.batches is None:
                begun = model.begin(tensors, INLINE_BELOW_S)
                if isinstance(begun, dict):
                    return served.answer(begun, prepared, started, call.shared)
                return self._beside(served, begun, prepared, call)
        except AgentError as error:
            self._failed(served, error)
            raise
        return self._beside(served, tensors, prepared, call)

    async def _infer_cold(self, call: Call) -> Reply:
        for _ in range(MAX_SWAPS):
            served = self._served_as(await self.loaded(call.name, call.version))
            prepared = served.prepare(call.body, call.header_length)
            tensors = prepared.tensors(call.body, call.shared)
            with suppress(NotReady):  # unloaded since it was chosen
                return await self._counted(served, tensors, prepared, call)
        raise NotReady("the model is being replaced again and again", where=call.name)

    async def _beside(
        self, served: ServedModel, work: Work, prepared: Prepared, call: Call
    ) -> Reply:
        try:
            return await self._counted(served, work, prepared, call)
        except NotReady:  # the version after it answers
            return await self._infer_cold(call)

    async def _counted(
        self, served: ServedModel, work: Work, prepared: Prepared, call: Call
    ) -> Reply:
        try:
            return await self._in_time(served, work, prepared, call)
        except NotReady:
            raise
        except AgentError as error:
            self._failed(served, error)
            raise

    async def _in_time(
        self, served: ServedModel, work: Work, prepared: Prepared, call: Call
    ) -> Reply:
        """The answer, unless the deadline that the request names passes first."""
        if not prepared.timeout_s:
            return await self._answered(served, work, prepared, call, math.inf)
        deadline = asyncio.get_running_loop().time() + prepared.timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                return await self._answered(served, work, prepared, call, deadline)
        except TimeoutError:
            raise TooSlow(f"no answer within {prepared.timeout_s:g} s", where=call.name) from None

    async def _answered(
        self, served: ServedModel, work: Work, prepared: Prepared, call: Call, deadline: float
    ) -> Reply:
        started = perf_counter()
        if served.batches is not None and not callable(work):
            with self._admission.place():
                outputs = await self._batcher(served).run(work, prepared.priority or USUAL_LEVEL)
            return served.answer(outputs, prepared, started, call.shared)
        run = work if callable(work) else partial(served.model.run, work)
        urgency = Urgency(prepared.priority or USUAL_LEVEL, deadline)
        answer = partial(served.run, run, prepared, started, call.shared)
        return await self._admission.admitted(answer, urgency, served.apart)

    def _batcher(self, served: ServedModel) -> Batcher:
        """What gathers the requests to a model."""
        assert served.batches is not None
        known = self._batchers.get(served.model.ref)
        if known is None or known[0] is not served:
            run, note = partial(self._run_batch, served), partial(self._note_batch, served)
            batcher = Batcher(served.batches, run, note)
            known = self._batchers[served.model.ref] = (served, batcher)
            self._batchers = {ref: k for ref, k in self._batchers.items() if self._is_served(k[0])}
        return known[1]

    def _note_batch(self, served: ServedModel, requests: int) -> None:
        ref = served.model.ref
        self.metrics.batches.inc(1, ref.name, ref.version)
        self.metrics.batched.inc(requests, ref.name, ref.version)

    def _is_served(self, served: ServedModel) -> bool:
        ref = served.model.ref
        return self._served.get((ref.name, ref.version)) is served

    async def _run_batch(self, served: ServedModel, tensors: Tensors) -> dict[str, Array]:
        """In the event loop, if the whole batch is as short as a model's run in it may be."""
        rows = next(iter(tensors.values())).shape[0]
        if served.inline and rows * served.model.typical_s < INLINE_BELOW_S:
            begun = served.model.begin(tensors, INLINE_BELOW_S)
            if isinstance(begun, dict):
                return begun
            return await self._admission.threaded(begun, USUAL, served.apart)
        run = partial(served.model.run, tensors)
        return await self._admission.threaded(run, USUAL, served.apart)

    def _failed(self, served: ServedModel, error: AgentError) -> None:
        ref = served.model.ref
        self.metrics.failures.inc(1, ref.name, ref.version, error.code)

    async def beside(self, model: ModelPort, work: Callable[[], T]) -> T:
        """Work with a loaded model, in a thread, as one of the requests that are under way.

        Raises:
            TooMany: too many requests are under way; and whatever the work raises.
        """
        apart = model.ref if model.isolated else None
        try:
            return await self._admission.admitted(work, Urgency(USUAL_LEVEL, math.inf), apart)
        except AgentError as error:
            self.metrics.failures.inc(1, model.ref.name, model.ref.version, error.code)
            raise

    async def loaded(self, name: str, version: str | None) -> ModelPort:
        """A model, loaded if need be.

        Raises:
            NotFound, Refused, BadModel, EngineMissing: as the registry says.
            TooMany: too many requests are under way.
        """
        model = self._models.peek(name, version)
        if model is not None:
            return model
        with self._admission.place():
            return await self._models.get(name, version)

    def _served_as(self, model: ModelPort) -> ServedModel:
        key = (model.ref.name, model.ref.version)
        served = self._served.get(key)
        if served is None or served.model is not model:
            served = ServedModel(model, self.metrics)
            self._served.pop(key, None)
            if len(self._served) >= MAX_SERVED:
                del self._served[next(iter(self._served))]
            self._served[key] = served
        return served
