"""What the agent can be asked to do, whatever protocol it is asked in.

One class holds the verbs; the routes are thin over it. A verb that can answer at once does so without
a coroutine, which is what keeps inference on small models fast.
"""

import asyncio
import dataclasses
import os
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import perf_counter
from typing import Any, NamedTuple, ParamSpec, TypeVar

from agent import __version__
from agent.api.oip.request import Prepared
from agent.api.oip.shared import Shared
from agent.api.ports import LinkPort, ModelPort, ModelsPort, OutboxPort, PipelinesPort
from agent.api.readings import decode_readings
from agent.api.regions import Regions
from agent.api.repository import ModelRepository
from agent.api.served import InferenceMetrics, Reply, ServedModel
from agent.clock import Clock
from agent.errors import AgentError, NotReady, TooMany
from agent.telemetry.events import EventBus, Numbered
from agent.telemetry.exposition import render
from agent.telemetry.metrics import Metrics
from agent.telemetry.probes import Probes
from agent.types import Tensors

P = ParamSpec("P")
T = TypeVar("T")

MAX_SERVED = 64  # models whose prepared requests are kept
MAX_SWAPS = 5  # of a model during one request
MAX_THREADS = 4  # that run models at once
DECODE_INLINE_BELOW = 32 * 1024  # bytes: larger readings are decoded in a thread

EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "system_shared_memory",
)


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


class Service:
    """The verbs.

    Attributes:
        metrics: everything that is counted.
        repository: the verbs about models.
        regions: shared memory that callers registered.
        starting: why the agent is not ready yet or any more; empty when it is.
    """

    def __init__(
        self,
        models: ModelsPort,
        *,
        device: str,
        clock: Clock,
        metrics: Metrics,
        events: EventBus,
        probes: Probes,
        pipelines: PipelinesPort | None = None,
        outbox: OutboxPort | None = None,
        link: LinkPort | None = None,
        max_running: int = 64,
    ) -> None:
        self.metrics = metrics
        self.starting = ""
        self._models = models
        self._device = device
        self._clock = clock
        self._started = clock.monotonic()
        self._events = events
        self._probes = probes
        self._pipelines = pipelines
        self._outbox = outbox
        self._link = link
        self._max_running = max_running
        self._running = 0
        self._threads: ThreadPoolExecutor | None = None
        self._served: dict[tuple[str, str], ServedModel] = {}
        self._inference = InferenceMetrics(metrics)
        self.regions = Regions()
        self.repository = ModelRepository(models, self._inference, pipelines)
        self._outbox_messages = metrics.gauge(
            "edge_agent_outbox_messages",
            "Messages since the device was set up, by what became of them",
            ("class", "fate"),
        )
        metrics.gauge_callback(
            "edge_agent_api_running", "Requests inside models and pipelines", lambda: self._running
        )

    # Health

    def reasons(self) -> list[str]:
        """Why the agent is not ready; empty when it is."""
        reasons = [self.starting] if self.starting else []
        problems = getattr(self._pipelines, "problems", {})
        return reasons + [f"pipeline {name}: {why}" for name, why in problems.items()]

    def server_metadata(self) -> dict[str, Any]:
        """Name, version and extensions, as the Open Inference Protocol has them."""
        return {"name": "edge-agent", "version": __version__, "extensions": list(EXTENSIONS)}

    # Models

    async def model_metadata(self, name: str, version: str | None) -> dict[str, Any]:
        """Tensors of a model, as the Open Inference Protocol has them; loads it if need be.

        Raises:
            NotFound, Refused, BadModel, EngineMissing: as the registry says.
        """
        model = await self._loaded(name, version)
        manifest = model.manifest
        versions = [m["version"] for m in await self.repository.index() if m["name"] == name]
        return {
            "name": model.ref.name,
            "versions": versions or [model.ref.version],
            "platform": manifest.engine,
            "inputs": [_tensor(spec) for spec in manifest.inputs],
            "outputs": [_tensor(spec) for spec in manifest.outputs],
            "properties": {"task": manifest.task, "summary": manifest.summary},
        }

    def model_ready(self, name: str, version: str | None) -> bool:
        """Whether the model is loaded; one that is not is loaded by its first request."""
        return self._models.peek(name, version) is not None

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
            served = self._served_as(await self._loaded(call.name, call.version))
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
            return await self._in_thread(served.run, prepared, tensors, started, call.shared)
        except NotReady:
            raise
        except AgentError as error:
            self._failed(served, error)
            raise

    def _failed(self, served: ServedModel, error: AgentError) -> None:
        ref = served.model.ref
        self._inference.failures.inc(1, ref.name, ref.version, error.code)

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a function in a thread, as one of at most so many."""
        loop = asyncio.get_running_loop()
        self._enter()
        job = self._pool().submit(function, *args, **kwargs)
        # The place is given back when the run ends, not when its caller goes away.
        job.add_done_callback(lambda _: loop.call_soon_threadsafe(self._leave))
        return await asyncio.wrap_future(job)

    async def _loaded(self, name: str, version: str | None) -> ModelPort:
        model = self._models.peek(name, version)
        if model is not None:
            return model
        self._enter()
        try:
            return await self._models.get(name, version)
        finally:
            self._leave()

    def _served_as(self, model: ModelPort) -> ServedModel:
        key = (model.ref.name, model.ref.version)
        served = self._served.get(key)
        if served is None or served.model is not model:
            served = ServedModel(model, self._inference)
            self._served.pop(key, None)
            if len(self._served) >= MAX_SERVED:
                del self._served[next(iter(self._served))]
            self._served[key] = served
        return served

    # Readings

    async def submit(self, body: bytes, content_type: str, stream: str) -> dict[str, Any]:
        """Hand readings to the pipelines; returns when they are scored and on the disk.

        Raises:
            NotReady: this device has no pipelines.
            BadReading, TooLarge: the readings are not understood, or too many.
            TooMany: the pipelines are behind.
        """
        if self._pipelines is None:
            raise NotReady(
                "no pipeline is configured", hint="Add a [[pipeline]] to the configuration"
            )
        self._enter()
        try:
            tables = await self._decoded(body, content_type, stream or None)
            receipts = await asyncio.gather(*map(self._pipelines.submit, tables))
        finally:
            self._leave()
        dropped: dict[str, int] = {}
        for receipt in receipts:
            for reason, count in receipt.dropped.items():
                dropped[reason] = dropped.get(reason, 0) + count
        return {
            "accepted": sum(receipt.accepted for receipt in receipts),
            "dropped": dropped,
            "windows": sum(receipt.windows for receipt in receipts),
            "warnings": sum(receipt.warnings for receipt in receipts),
        }

    async def _decoded(self, body: bytes, content_type: str, stream: str | None) -> Sequence[Any]:
        now = self._clock.wall()
        if len(body) < DECODE_INLINE_BELOW:
            return decode_readings(body, content_type, stream=stream, now=now)
        return await self._in_thread(decode_readings, body, content_type, stream=stream, now=now)

    # Looking

    async def events(
        self, after: int | None, heartbeat_s: float
    ) -> AsyncGenerator[Numbered | None, None]:
        """What happens from now on, or from after an event; None when nothing did for a while."""
        with self._events.subscribe(after=after) as subscription:
            while True:
                try:
                    async with asyncio.timeout(heartbeat_s):
                        item = await anext(subscription)
                except TimeoutError:
                    yield None
                else:
                    yield item

    async def status(self) -> dict[str, Any]:
        """Everything that a person wants to see at a glance."""
        reasons = self.reasons()
        streams = self._pipelines.status() if self._pipelines else []
        index = await self.repository.index()
        return {
            "device": self._device,
            "version": __version__,
            "time": self._clock.wall(),
            "uptime_s": round(self._clock.monotonic() - self._started, 3),
            "ready": not reasons,
            "reasons": reasons,
            "machine": dataclasses.asdict(self._probes.look()),
            "models": [{**model, **self._figures(model)} for model in index],
            "streams": [dataclasses.asdict(stream) for stream in streams],
            "outbox": await self._outbox_counts(),
            "link": self._link_state(),
        }

    def _figures(self, model: dict[str, str]) -> dict[str, Any]:
        """Requests and times of a model."""
        seconds = self._inference.seconds
        found = seconds.series().get((model["name"], model["version"]))
        if found is None:
            return {"requests": 0, "p50_ms": None, "p99_ms": None}
        return {
            "requests": sum(found.counts),
            "p50_ms": round(1000 * found.quantile(0.5, seconds.edges), 4),
            "p99_ms": round(1000 * found.quantile(0.99, seconds.edges), 4),
        }

    async def _outbox_counts(self) -> dict[str, Any] | None:
        if self._outbox is None:
            return None
        counts = await self._outbox.counts()
        total = dataclasses.asdict(counts.total)
        return {**total, "classes": dataclasses.asdict(counts)["by_class"]}

    async def exposition(self) -> bytes:
        """Every metric as Prometheus reads it; those that a store must be asked for are fresh."""
        counts = await self._outbox_counts() or {"classes": {}}
        for kind, fates in counts["classes"].items():
            for fate, count in fates.items():
                if fate != "bytes":
                    self._outbox_messages.set(count, kind, fate)
        return render(self.metrics)

    def _link_state(self) -> dict[str, Any] | None:
        link = self._link
        if link is None:
            return None
        return {
            "connected": link.connected,
            "state": link.state,
            "protocol": link.protocol,
            "broker": link.broker,
            "reason": str(link.reason) if link.reason else "",
        }

    # Room

    def close(self) -> None:
        """Let the threads and shared memory go. What still runs is waited for by nobody."""
        self.regions.close()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _enter(self) -> None:
        if self._running >= self._max_running:
            raise TooMany(f"{self._max_running} requests are under way already")
        self._running += 1

    def _leave(self) -> None:
        self._running -= 1

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            threads = min(MAX_THREADS, os.cpu_count() or 1)
            self._threads = ThreadPoolExecutor(threads, thread_name_prefix="infer")
        return self._threads


def _tensor(spec: Any) -> dict[str, Any]:
    described = {"name": spec.name, "datatype": spec.dtype, "shape": list(spec.shape)}
    if spec.unit:
        described["unit"] = spec.unit
    if spec.quantization is not None:
        described["quantization"] = dataclasses.asdict(spec.quantization)
    return described
