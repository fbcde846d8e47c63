"""What the agent can be asked to do, whatever protocol it is asked in.

One class holds the verbs; the routes are thin over it. Inference (`inference`) and the verbs about
models (`repository`) are parts of it with files of their own.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from agent import __version__
from agent.api.admission import Admission
from agent.api.answers import (
    LinkStatus,
    ModelEntry,
    ModelFigures,
    ModelMetadata,
    OutboxStatus,
    ServerMetadata,
    Status,
    Submitted,
    TensorMetadata,
)
from agent.api.doubt import Doubts
from agent.api.figures import model_figures, outbox_status, serving_figures
from agent.api.gauges import OutboxMetrics
from agent.api.inference import Inference
from agent.api.openai.hearing import HearingMetrics, Listeners
from agent.api.openai.writing import Writers, WritingMetrics
from agent.api.ports import LinkPort, ModelsPort, OutboxPort, PipelinesPort
from agent.api.readings import decode_readings
from agent.api.regions import Regions
from agent.api.repository import ModelRepository
from agent.api.served import InferenceMetrics
from agent.clock import Clock
from agent.errors import NotReady
from agent.ids import uuid7
from agent.telemetry.events import EventBus, Numbered
from agent.telemetry.exposition import render
from agent.telemetry.metrics import Metrics
from agent.telemetry.probes import Probes
from agent.types import TensorSpec

if TYPE_CHECKING:
    from agent.sync.escalation import Escalations

DECODE_INLINE_BELOW = 32 * 1024  # bytes: larger readings are decoded in a thread

EXTENSIONS = (
    "binary_tensor_data",
    "logging",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
    "system_shared_memory",
)


class Service:
    """The verbs.

    Attributes:
        metrics: everything that is counted.
        admission: how many requests are inside, and their threads.
        inference: the verb that runs models.
        writers: the verb that has language models write.
        listeners: the verb that has speech models hear.
        repository: the verbs about models.
        regions: shared memory that callers registered.
        escalations: questions to people and larger models; None on a device without them.
        doubts: inference whose doubtful answers become escalations.
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
        escalations: "Escalations | None" = None,
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
        self.admission = Admission(max_running)
        self.inference = Inference(models, self.admission, InferenceMetrics(metrics))
        self.writers = Writers(WritingMetrics(metrics))
        self.listeners = Listeners(HearingMetrics(metrics))
        self.clock = clock
        self.escalations = escalations
        self.doubts = Doubts(self.inference, escalations)
        self.regions = Regions()
        self.repository = ModelRepository(models, self.inference.metrics, pipelines)
        self._outbox_metrics = OutboxMetrics(metrics)
        metrics.gauge_callback(
            "edge_agent_event_listeners", "Event streams that are open", lambda: events.listeners
        )
        metrics.gauge_callback(
            "edge_agent_api_running",
            "Requests that are inside models and pipelines",
            lambda: self.admission.running,
        )

    # Health

    def reasons(self) -> list[str]:
        """Why the agent is not ready; empty when it is."""
        reasons = [self.starting] if self.starting else []
        problems = getattr(self._pipelines, "problems", {})
        return reasons + [f"pipeline {name}: {why}" for name, why in problems.items()]

    def server_metadata(self) -> ServerMetadata:
        """Name, version and extensions, as the Open Inference Protocol has them."""
        return {"name": "edge-agent", "version": __version__, "extensions": list(EXTENSIONS)}

    # Models

    async def model_metadata(self, name: str, version: str | None) -> ModelMetadata:
        """Tensors of a model, as the Open Inference Protocol has them; loads it if need be.

        Raises:
            NotFound, Refused, BadModel, EngineMissing: as the registry says.
        """
        model = await self.inference.loaded(name, version)
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

    async def model_ready(self, name: str, version: str | None) -> bool:
        """Whether the model is loaded; one that is not is loaded by its first request.

        Raises:
            NotFound: it is not installed.
        """
        if self._models.peek(name, version) is not None:
            return True
        await self.repository.check_installed(name, version)
        return False

    # Readings

    async def submit(self, body: bytes, content_type: str, stream: str) -> Submitted:
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
        with self.admission.place():
            tables = await self._decoded(body, content_type, stream or None)
            receipts = await asyncio.gather(*map(self._pipelines.submit, tables))
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
        return await self.admission.in_thread(
            decode_readings, body, content_type, stream=stream, now=now
        )

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

    async def status(self) -> Status:
        """Everything that a person wants to see at a glance."""
        reasons = self.reasons()
        streams = self._pipelines.status() if self._pipelines else ()
        index = await self.repository.index()
        return {
            "device": self._device,
            "version": __version__,
            "time": self._clock.wall(),
            "uptime_s": round(self._clock.monotonic() - self._started, 3),
            "ready": not reasons,
            "reasons": reasons,
            "machine": self._probes.look(),
            "serving": serving_figures(self.metrics, self.admission),
            "edges_ms": [1000 * edge for edge in self.inference.metrics.seconds.edges],
            "models": [self._figures(model) for model in index],
            "streams": list(streams),
            "outbox": await self._outbox_status(),
            "link": self._link_state(),
        }

    def _figures(self, model: ModelEntry) -> ModelFigures:
        loaded = self._models.peek(model["name"], model["version"])
        return model_figures(model, loaded, self.inference.metrics.seconds)

    async def _outbox_status(self) -> OutboxStatus | None:
        return None if self._outbox is None else outbox_status(await self._outbox.counts())

    async def exposition(self) -> bytes:
        """Every metric as Prometheus reads it; those that a store must be asked for are fresh."""
        if self._outbox is not None:
            self._outbox_metrics.show(await self._outbox.counts())
        return render(self.metrics)

    def _link_state(self) -> LinkStatus | None:
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

    def stamp(self) -> tuple[float, str]:
        """Wall time and an identifier, for an answer."""
        return self._clock.wall(), uuid7(self._clock)

    # Room

    def close(self) -> None:
        """Let the threads and shared memory go. What still runs is waited for by nobody."""
        self.regions.close()
        self.admission.close()
        self.writers.close()
        self.listeners.close()


def _tensor(spec: TensorSpec) -> TensorMetadata:
    described: TensorMetadata = {
        "name": spec.name,
        "datatype": spec.dtype,
        "shape": list(spec.shape),
    }
    if spec.unit:
        described["unit"] = spec.unit
    if spec.quantization is not None:
        described["quantization"] = spec.quantization
    if spec.values is not None:
        described["values"] = spec.values
    return described
