"""Inference: from a request's bytes to the answer's, in the event loop or in a thread."""

from collections.abc import Awaitable
from contextlib import suppress
from time import perf_counter
from typing import NamedTuple

from agent.api.admission import Admission
from agent.api.oip.request import Prepared
from agent.api.oip.shared import Shared
from agent.api.ports import ModelPort, ModelsPort
from agent.api.served import InferenceMetrics, Reply, ServedModel
from agent.errors import AgentError, NotReady
from agent.types import Tensors

MAX_SERVED = 64  # models whose prepared requests are kept
MAX_SWAPS = 5  # of a model during one request


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
            if served.inline:
                return served.run(prepared, tensors, started, call.shared)
        except AgentError as error:
            self._failed(served, error)
            raise
        return self._infer_beside(served, prepared, tensors, call)

    async def _infer_cold(self, call: Call) -> Reply:
        for _ in range(MAX_SWAPS):
            served = self._served_as(await self.loaded(call.name, call.version))
            prepared = served.prepare(call.body, call.header_length)
            tensors = prepared.tensors(call.body, call.shared)
            with suppress(NotReady):  # unloaded since it was chosen
                return await self._infer_in_thread(served, prepared, tensors, call)
        raise NotReady("the model is being replaced again and again", where=call.name)

    async def _infer_beside(
        self, served: ServedModel, prepared: Prepared, tensors: Tensors, call: Call
    ) -> Reply:
        try:
            return await self._infer_in_thread(served, prepared, tensors, call)
        except NotReady:  # the version after it answers
            return await self._infer_cold(call)

    async def _infer_in_thread(
        self, served: ServedModel, prepared: Prepared, tensors: Tensors, call: Call
    ) -> Reply:
        started = perf_counter()
        try:
            return await self._admission.in_thread(
                served.run, prepared, tensors, started, call.shared
            )
        except NotReady:
            raise
        except AgentError as error:
            self._failed(served, error)
            raise

    def _failed(self, served: ServedModel, error: AgentError) -> None:
        ref = served.model.ref
        self.metrics.failures.inc(1, ref.name, ref.version, error.code)

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
