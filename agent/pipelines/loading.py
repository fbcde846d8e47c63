"""The pipelines' models: loaded at the start, and tried again while one cannot be used."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.clock import Clock
from agent.errors import AgentError, EngineFailed, NotReady
from agent.pipelines.spec import PipelineSpec

if TYPE_CHECKING:
    from agent.registry import LoadedModel, Models

_log = logging.getLogger(__name__)

#: Pauses between tries of a model that cannot be used, seconds; each doubles the one before.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5.0, 300.0


@dataclass(slots=True)
class _Failure:
    spec: PipelineSpec
    error: NotReady
    pause_s: float
    until: float


class Loading:
    """Gives pipelines their models; a failure is remembered for a while, and mended by itself."""

    def __init__(self, models: "Models", clock: Clock) -> None:
        self._models = models
        self._clock = clock
        self._failures: dict[str, _Failure] = {}
        self._mending: asyncio.Task[None] | None = None

    @property
    def problems(self) -> dict[str, AgentError]:
        """Pipeline -> why its model cannot be used now."""
        return {name: failure.error for name, failure in self._failures.items()}

    async def start(self, specs: Sequence[PipelineSpec]) -> None:
        """Load all of them. One that fails is noted, and no reason not to start."""
        for spec in specs:
            await self._attempt(spec)

    def peek(self, spec: PipelineSpec) -> "LoadedModel | None":
        """The pipeline's model as it answers now, if it is loaded."""
        return self._models.peek(spec.model)

    async def get(self, spec: PipelineSpec) -> "LoadedModel":
        """The pipeline's model.

        Raises:
            NotReady: it cannot be used now; the message says why, and when to try again.
        """
        failure = self._failures.get(spec.name)
        if failure is not None and self._clock.monotonic() < failure.until:
            raise failure.error
        try:
            model = await self._models.get(spec.model)
        except AgentError as error:
            raise self._failed(spec, error) from error
        except Exception as error:
            _log.exception("a model failed to load", extra={"pipeline": spec.name})
            raise self._failed(spec, EngineFailed(type(error).__name__)) from error
        if self._failures.pop(spec.name, None):
            _log.info("the pipeline has its model again", extra={"pipeline": spec.name})
        return model

    async def close(self) -> None:
        """Mend nothing more. Idempotent."""
        if self._mending is not None:
            self._mending.cancel()
            await asyncio.gather(self._mending, return_exceptions=True)
            self._mending = None

    def _failed(self, spec: PipelineSpec, error: AgentError) -> NotReady:
        before = self._failures.get(spec.name)
        pause_s = min(2 * before.pause_s, LONGEST_PAUSE_S) if before else FIRST_PAUSE_S
        problem = NotReady(
            f"the model of pipeline {spec.name} cannot be used: {error} [{error.code}]",
            where=spec.model,
            retry_after_s=pause_s,
        )
        until = self._clock.monotonic() + pause_s
        self._failures[spec.name] = _Failure(spec, problem, pause_s, until)
        _log.warning("%s", problem)
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend(), name="pipeline-models")
        return problem

    async def _mend(self) -> None:
        """Try again at each failure's time, until there is none."""
        while self._failures:
            due = min(failure.until for failure in self._failures.values())
            await self._clock.sleep(max(due - self._clock.monotonic(), 0.1))
            now = self._clock.monotonic()
            for failure in [f for f in self._failures.values() if f.until <= now]:
                await self._attempt(failure.spec)

    async def _attempt(self, spec: PipelineSpec) -> None:
        with contextlib.suppress(NotReady):  # noted and logged
            await self.get(spec)
