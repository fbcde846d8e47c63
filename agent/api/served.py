"""A loaded model as the API serves it: its signature, its prepared requests and its counters."""

from collections.abc import Callable, Mapping
from time import perf_counter
from typing import TypeAlias

from agent.api.batching import batch_settings
from agent.api.oip.listed import Listed
from agent.api.oip.request import Prepared, prepare, prepare_raw
from agent.api.oip.response import encode
from agent.api.oip.shared import Shared
from agent.api.oip.signature import Signature
from agent.api.ports import ModelPort
from agent.telemetry.metrics import REQUEST_BUCKETS, Metrics
from agent.types import Array

INLINE_BELOW_S = 0.001  # models whose run takes less are run in the event loop itself
MAX_PREPARED = 32  # requests kept
MAX_PREPARED_HEADER = 4096  # bytes of JSON of a request that is kept
MAX_PREPARED_BODY = 1024  # bytes of a request that is all JSON; larger ones hold data

#: JSON part of an answer, or all of it, and the binary tensors after it.
Reply: TypeAlias = tuple[bytes, list[bytes | memoryview]]


class InferenceMetrics:
    """What is counted for each model."""

    def __init__(self, metrics: Metrics) -> None:
        self.seconds = metrics.histogram(
            "edge_agent_inference_seconds",
            "Time from a whole request to its answer",
            REQUEST_BUCKETS,
            ("model", "version"),
        )
        self.failures = metrics.counter(
            "edge_agent_inference_failures_total",
            "Requests that a model did not answer",
            ("model", "version", "code"),
        )
        self.batches = metrics.counter(
            "edge_agent_batches_total",
            "Runs that answered several requests together",
            ("model", "version"),
        )
        self.batched = metrics.counter(
            "edge_agent_batched_requests_total",
            "Requests that were answered by joined runs",
            ("model", "version"),
        )


class ServedModel:
    """One loaded version of a model.

    Attributes:
        model: the loaded model.
        signature: its tensors.
        inline: its runs are so short that a thread would only slow them down.
        batches: how its requests are joined; None where they are not.
        apart: names the threads that wait for its worker; None for a model in this process.
    """

    def __init__(self, model: ModelPort, metrics: InferenceMetrics) -> None:
        manifest = model.manifest
        self.model = model
        self.inline = model.typical_s < INLINE_BELOW_S
        self.apart = model.ref if model.isolated else None
        self.batches = batch_settings(manifest, model.batch_gain)
        self.signature = Signature.of(
            model.ref.name,
            model.ref.version,
            manifest.inputs,
            manifest.outputs,
            nan=manifest.parameters.get("missing") == "nan",
        )
        self._observe = metrics.seconds.observe
        self._labels = (model.ref.name, model.ref.version)
        self._prepared: dict[bytes, Prepared] = {}
        self._listed: Listed | None = None

    def prepare(self, body: bytes, header_length: int | None) -> Prepared:
        """Understand the JSON part of a request; one that was met before is remembered.

        Args:
            body: the whole body.
            header_length: bytes of JSON at its start; None for all, 0 for a raw request.

        Raises:
            BadPayload, BadTensor: it is not a request that this model can answer.
        """
        if header_length is None:
            return self._prepared.get(body) or self._prepare_json(body)
        if header_length == 0:
            return prepare_raw(body, self.signature)
        if header_length > MAX_PREPARED_HEADER:
            return prepare(body, header_length, self.signature)
        header = body[:header_length]
        known = self._prepared.get(header)
        if known is None:
            known = prepare(body, header_length, self.signature)
            self._keep(header, known)
        return known

    def run(
        self,
        outputs: Callable[[], Mapping[str, Array]],
        prepared: Prepared,
        started: float,
        shared: Shared | None = None,
    ) -> Reply:
        """Have the model's outputs made, and answer with them."""
        return self.answer(outputs(), prepared, started, shared)

    def answer(
        self,
        outputs: Mapping[str, Array],
        prepared: Prepared,
        started: float,
        shared: Shared | None = None,
    ) -> Reply:
        """Encode an answer, and count the request."""
        reply = encode(outputs, prepared, self.signature, shared)
        self._observe(perf_counter() - started, *self._labels)
        return reply

    def _prepare_json(self, body: bytes) -> Prepared:
        """A request that is all JSON; the text around the elements of the last one is known."""
        prepared = self._listed.again(body) if self._listed is not None else None
        if prepared is None:
            prepared = prepare(body, len(body), self.signature)
            self._listed = Listed.of(body, self.signature, prepared)
            if len(body) <= MAX_PREPARED_BODY:
                self._keep(body, prepared)
        return prepared

    def _keep(self, header: bytes, prepared: Prepared) -> None:
        if not prepared.reusable:
            return
        if len(self._prepared) >= MAX_PREPARED:
            del self._prepared[next(iter(self._prepared))]
        self._prepared[header] = prepared
