"""A pipeline as data: which streams, watched by which model, how. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from agent.errors import BadConfig, NotFound
from agent.pipelines.align import AlignSettings
from agent.tasks.anomaly.settings import AnomalySettings

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """Streams of readings watched by one model.

    Attributes:
        name: lower-case letters, digits and hyphens.
        model: name of an installed model whose task is "anomaly".
        streams: patterns of stream names; * stands for any characters, ? for one.
        summary_every_s: how often scores are summed up for the cloud, seconds of the stream's time.
        align: how messages about one sensor each become rows.
        settings: how the detector watches each stream.
    """

    name: str
    model: str
    streams: tuple[str, ...] = ("*",)
    summary_every_s: float = 60.0
    align: AlignSettings = field(default_factory=AlignSettings)
    settings: AnomalySettings = field(default_factory=AnomalySettings)

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadConfig("must be lower-case letters, digits and hyphens", where="name")
        if not self.model:
            raise BadConfig("must name a model", where="model")
        if not self.streams or "" in self.streams:
            raise BadConfig("must hold at least one pattern, and no empty one", where="streams")
        if not 1 <= self.summary_every_s <= 86_400:
            raise BadConfig("must be 1 to 86400 seconds", where="summary_every_s")

    def takes(self, stream: str) -> bool:
        """Whether the stream's name fits one of the patterns."""
        return any(fnmatchcase(stream, pattern) for pattern in self.streams)


@dataclass(frozen=True, slots=True)
class PipelineLimits:
    """How much may wait, and how many streams there may be.

    Attributes:
        streams: streams watched at the same time.
        waiting_rows: rows that wait to be scored, over all streams.
        batch_rows: rows of one stream that are scored and committed together.
        idle_s: without readings for so long, a stream gives its place to a new one if need be, seconds.
    """

    streams: int = 64
    waiting_rows: int = 200_000
    batch_rows: int = 4096
    idle_s: float = 86_400.0

    def __post_init__(self) -> None:
        for name in ("streams", "waiting_rows", "batch_rows"):
            if getattr(self, name) < 1:
                raise BadConfig("must be at least 1", where=name)
        if not self.idle_s > 0:
            raise BadConfig("must be above 0 seconds", where="idle_s")
        if self.streams > 1024:
            raise BadConfig("must be at most 1024", where="streams")


#: Settings that may change while streams are watched.
TUNABLE = ("summary_every_s", "raise_score", "raise_rows", "within_rows", "clear_score")


def tunable(spec: PipelineSpec) -> dict[str, Any]:
    """The values of a pipeline that may change while its streams are watched."""
    return {
        name: getattr(spec if name == "summary_every_s" else spec.settings, name)
        for name in TUNABLE
    }


def retuned(spec: PipelineSpec, values: Mapping[str, Any]) -> PipelineSpec:
    """The pipeline with other values of these.

    Raises:
        BadConfig: they do not go together.
    """
    own = {name: value for name, value in values.items() if name == "summary_every_s"}
    others = {name: value for name, value in values.items() if name not in own}
    return replace(spec, settings=replace(spec.settings, **others), **own)


def pipeline_for(specs: Sequence[PipelineSpec], stream: str) -> PipelineSpec:
    """The first pipeline that takes the stream.

    Raises:
        NotFound: none does.
    """
    for spec in specs:
        if spec.takes(stream):
            return spec
    patterns = ", ".join(pattern for spec in specs for pattern in spec.streams)
    raise NotFound(
        "no pipeline takes this stream", where=stream, hint=f"Pipelines take: {patterns or 'none'}"
    )
