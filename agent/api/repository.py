"""The Open Inference Protocol's extensions about models: repository, configuration, statistics.

A model comes from a signed package that was installed before, and from nowhere else: a load request
that carries a configuration or a file is refused.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from agent.api.answers import (
    ConfiguredTensor,
    ModelConfiguration,
    ModelEntry,
    ModelStatistics,
    Statistics,
    Tally,
)
from agent.api.ports import ModelsPort, PipelinesPort
from agent.api.served import InferenceMetrics
from agent.errors import BadPayload, BadRequest, NotFound
from agent.types import TensorSpec

#: How the configuration extension calls element types where it differs from TYPE_ and the name.
_TYPES = {"BYTES": "TYPE_STRING"}


class ModelRepository:
    """The verbs about models rather than inference."""

    def __init__(
        self, models: ModelsPort, inference: InferenceMetrics, pipelines: PipelinesPort | None
    ) -> None:
        self._models = models
        self._inference = inference
        self._pipelines = pipelines

    async def index(self, *, ready: bool = False) -> list[ModelEntry]:
        """Every installed model and how it stands; or only those that are loaded."""
        index = await asyncio.to_thread(self._models.index)  # it may look at the disk
        return [
            {"name": m.name, "version": m.version, "state": m.state, "reason": m.reason}
            for m in index
            if m.state == "READY" or not ready
        ]

    async def check_installed(self, name: str, version: str | None) -> None:
        """Raise NotFound when no such model, or no such version of it, is installed."""
        index = await self.index()
        if not any(m["name"] == name and version in {None, m["version"]} for m in index):
            raise _unknown(name, version)

    async def load(self, name: str, parameters: Mapping[str, Any]) -> None:
        """Load the active version of an installed model.

        Raises:
            BadPayload: the request carries a model or a configuration of its own.
            NotFound, Refused, BadModel, EngineMissing: as the registry says.
        """
        if parameters:
            raise BadPayload(
                "a model comes from its signed package only",
                where=f"parameters.{next(iter(parameters))}",
                hint="Publish and install it: edge-agent models install",
            )
        await self._models.get(name)

    async def unload(self, name: str) -> None:
        """Give a model's memory back; its next request loads it again.

        Raises:
            NotFound: it is not installed.
            BadRequest: a pipeline needs it.
        """
        await self.check_installed(name, None)
        streams = self._pipelines.status() if self._pipelines else []
        users = [s.stream for s in streams if s.model.partition(" ")[0] == name]
        if users:
            raise BadRequest(f"the stream {users[0]} needs the model", where=name)
        await self._models.unload(name)

    async def configuration(self, name: str, version: str | None) -> ModelConfiguration:
        """What the model configuration extension tells of a model; loads it if need be."""
        model = await self._models.get(name, version)
        manifest = model.manifest
        return {
            "name": model.ref.name,
            "platform": manifest.engine,
            "backend": manifest.engine,
            "max_batch_size": 0,  # shapes are given whole, the batch included
            "input": [_configured(spec) for spec in manifest.inputs],
            "output": [_configured(spec) for spec in manifest.outputs],
        }

    async def statistics(self, name: str | None, version: str | None) -> Statistics:
        """Requests of each model, or of one, since the start.

        Raises:
            NotFound: it is not installed.
        """
        chosen = [
            (model["name"], model["version"])
            for model in await self.index()
            if name in {None, model["name"]} and version in {None, model["version"]}
        ]
        if name is not None and not chosen:
            raise _unknown(name, version)
        return {"model_stats": [self._statistics(*labels) for labels in chosen]}

    def _executions(self, answered: int, name: str, version: str) -> int:
        """Runs of the model: joined requests share one."""
        runs = self._inference.batches.series().get((name, version), 0.0)
        joined = self._inference.batched.series().get((name, version), 0.0)
        return max(answered - int(joined) + int(runs), 0)

    def _statistics(self, name: str, version: str) -> ModelStatistics:
        found = self._inference.seconds.series().get((name, version))
        count = sum(found.counts) if found else 0
        total = found.total if found else 0.0
        success: Tally = {"count": count, "ns": int(total * 1e9)}
        failures = self._inference.failures.series().items()
        failed = sum(n for labels, n in failures if labels[:2] == (name, version))
        return {
            "name": name,
            "version": version,
            "inference_count": count,
            "execution_count": self._executions(count, name, version),
            "inference_stats": {"success": success, "fail": {"count": int(failed), "ns": 0}},
            "batch_stats": [],
        }


def _unknown(name: str, version: str | None) -> NotFound:
    return NotFound("there is no such model", where=f"{name} {version or ''}".strip())


def _configured(spec: TensorSpec) -> ConfiguredTensor:
    dims: Sequence[int] = spec.shape
    data_type = _TYPES.get(spec.dtype, f"TYPE_{spec.dtype}")
    return {"name": spec.name, "data_type": data_type, "dims": list(dims)}
