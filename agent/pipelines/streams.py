"""The streams that are watched: opened as their readings come, with the model that answers now.

When another version of a pipeline's model takes over, its streams go on with that one at their next
batch: readings that wait for their row stay, and the model learns the healthy past anew. A stream
without readings for long gives its place to a new one, when places are short.
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clock import Clock
from agent.errors import AgentError, BadPayload, NotReady, TooMany
from agent.pipelines.detector import Detector
from agent.pipelines.instruments import Instruments
from agent.pipelines.loading import Loading
from agent.pipelines.messages import Sender
from agent.pipelines.names import check_stream
from agent.pipelines.spec import PipelineLimits, PipelineSpec, pipeline_for, retuned
from agent.pipelines.stream import Stream

if TYPE_CHECKING:
    from agent.registry import LoadedModel

_log = logging.getLogger(__name__)

#: Makes the detector of one stream; called again whenever a stream has to start afresh.
MakeDetector = Callable[["LoadedModel", PipelineSpec], Detector]

MAX_SWAPS = 5  # of a model while one batch waits for it


@dataclass(slots=True)
class _Watched:
    stream: Stream
    model: "LoadedModel"
    last: float  # when it last had readings, monotonic, seconds


class Streams:
    """Every stream by its name. Used from one event loop.

    Attributes:
        stored: states of streams that are known from before and not watched yet.
    """

    def __init__(
        self,
        specs: Sequence[PipelineSpec],
        *,
        models: Loading,
        make_detector: MakeDetector,
        sender: Sender,
        limits: PipelineLimits,
        instruments: Instruments,
        clock: Clock,
    ) -> None:
        self.stored: dict[str, bytes] = {}
        self._specs = specs
        self._untuned: list[Stream] = []
        self._models = models
        self._make = make_detector
        self._sender = sender
        self._limits = limits
        self._instruments = instruments
        self._clock = clock
        self._watched: dict[str, _Watched] = {}

    def __len__(self) -> int:
        return len(self._watched)

    def __contains__(self, name: str) -> bool:
        return name in self._watched

    def get(self, name: str) -> Stream | None:
        """A stream that is watched."""
        watched = self._watched.get(name)
        return watched.stream if watched else None

    def all(self) -> list[Stream]:
        """Those that are watched, by name."""
        return [self._watched[name].stream for name in sorted(self._watched)]

    def admit(self, name: str, busy: Collection[str]) -> str | None:
        """Refuse at the door what no round could take.

        Args:
            name: of the stream.
            busy: streams that cannot give their place away now.

        Returns:
            The stream that gave its place away and is to be forgotten; None when there was room.

        Raises:
            NotFound: no pipeline takes it. TooMany: every place is taken.
        """
        pipeline_for(self._specs, check_stream(name))
        if name in self._watched or len(self._watched) < self._limits.streams:
            return None
        idle = self._idle(busy)
        if idle is None:
            raise self._full(name)
        del self._watched[idle]
        _log.info("a stream without readings gave its place away", extra={"stream": idle})
        return idle

    def retune(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """Have a pipeline go on by other settings; its streams do so with the next `tune`.

        Raises:
            BadConfig: the values do not go together; nothing has changed.
        """
        self._specs = tuple(
            retuned(spec, values) if spec.name == pipeline else spec for spec in self._specs
        )
        self._untuned = [stream for stream in self.all() if stream.spec.name == pipeline]

    def tune(self) -> None:
        """Between rounds, since a stream is used by one thread at a time."""
        while self._untuned:
            stream = self._untuned.pop()
            stream.tune(next(spec for spec in self._specs if spec.name == stream.spec.name))

    async def resume(self) -> None:
        """Watch those that are known from before, as many as there are places."""
        for name in list(self.stored)[: self._limits.streams]:
            try:
                await self._opened(name)
            except AgentError as error:
                _log.info("a known stream is not watched: %s", error, extra={"stream": name})

    async def take(self, name: str) -> tuple[Stream, AbstractContextManager[None]]:
        """The stream with the model that answers now, and a hold on that model, to be entered.

        Raises:
            NotReady: the model cannot be used now, or cannot watch a stream.
        """
        for _ in range(MAX_SWAPS):
            watched = await self._opened(name)
            if self._models.peek(watched.stream.spec) is watched.model:
                watched.last = self._clock.monotonic()
                return watched.stream, watched.model.hold()
        raise NotReady("the model is being replaced again and again", where=name)

    def _idle(self, busy: Collection[str]) -> str | None:
        """The stream whose readings ceased longest ago, if that is long enough."""
        before = self._clock.monotonic() - self._limits.idle_s
        found = [
            (watched.last, name)
            for name, watched in self._watched.items()
            if watched.last <= before and name not in busy and not watched.stream.pending
        ]
        return min(found)[1] if found else None

    async def _opened(self, name: str) -> _Watched:
        watched = self._watched.get(name)
        if watched is not None and self._models.peek(watched.stream.spec) is watched.model:
            return watched
        if watched is None and len(self._watched) >= self._limits.streams:
            raise self._full(name)
        spec = pipeline_for(self._specs, name)
        model = await self._models.get(spec)
        stream = self._new(name, spec, model)
        if watched is not None:
            _log.info("the stream goes on with %s", model.ref, extra={"stream": name})
            stream.succeed(watched.stream.committed)
        elif (stored := self.stored.pop(name, None)) is not None:
            self._resumed(stream, stored)
        self._watched[name] = _Watched(stream, model, self._clock.monotonic())
        return self._watched[name]

    def _full(self, name: str) -> TooMany:
        return TooMany(
            f"{self._limits.streams} streams are watched already",
            where=name,
            hint="Raise the limit of streams in the configuration",
            retry_after_s=60.0,
        )

    def _new(self, name: str, spec: PipelineSpec, model: "LoadedModel") -> Stream:
        try:
            return Stream(name, spec, str(model.ref), partial(self._make, model), self._sender)
        except AgentError as error:  # the operator's matter, not the sender's
            raise NotReady(
                f"{model.ref} cannot watch a stream: {error}", where=name, retry_after_s=60.0
            ) from error

    def _resumed(self, stream: Stream, stored: bytes) -> None:
        try:
            stream.resume(stored)
        except BadPayload as error:
            self._instruments.afresh.inc()
            _log.warning("the stream starts afresh: %s", error, extra={"stream": stream.name})
