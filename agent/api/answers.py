"""What the local API answers, as types: the verbs return them, and the OpenAPI document shows them.

A number that is not known is NaN inside the daemon and null on the wire.
"""

from typing import Any, NotRequired, TypedDict

from agent.pipelines.stream import StreamStatus
from agent.store.account import ClassCounts
from agent.telemetry.probes import Machine
from agent.types import DType, Quantization, Values


class Error(TypedDict):
    """What is wrong, where, and what to do about it."""

    error: str
    code: str
    message: NotRequired[str]
    where: NotRequired[str]
    hint: NotRequired[str]


class Empty(TypedDict):
    """Done; there is nothing to say."""


class Health(TypedDict):
    """The daemon is there."""

    status: str


class Live(TypedDict):
    """The daemon is there."""

    live: bool


class Readiness(TypedDict):
    """Whether the daemon is ready, and why not."""

    ready: bool
    reasons: list[str]


class ServerMetadata(TypedDict):
    """Who answers, and which extensions of the protocol it knows."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(TypedDict):
    """One input or output of a model; -1 is a size that is free."""

    name: str
    datatype: DType
    shape: list[int]
    unit: NotRequired[str]
    quantization: NotRequired[Quantization]
    values: NotRequired[Values]


class Properties(TypedDict):
    """What a model is for."""

    task: str
    summary: str


class ModelMetadata(TypedDict):
    """A model's versions and tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: Properties


class ModelReadiness(TypedDict):
    """The model is loaded."""

    name: str
    ready: bool


class ModelEntry(TypedDict):
    """An installed model and how it stands."""

    name: str
    version: str
    state: str
    reason: str


class ModelList(TypedDict):
    """Every installed model."""

    models: list[ModelEntry]


class ConfiguredTensor(TypedDict):
    """A tensor in the words of the configuration extension."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(TypedDict):
    """A model in the words of the configuration extension."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


class Tally(TypedDict):
    """Requests and the time that they took together, nanoseconds."""

    count: int
    ns: int


class InferenceTallies(TypedDict):
    """Requests by outcome."""

    success: Tally
    fail: Tally


class ModelStatistics(TypedDict):
    """Requests of one version of a model since the start."""

    name: str
    version: str
    inference_count: int
    execution_count: int
    inference_stats: InferenceTallies
    batch_stats: list[Any]


class Statistics(TypedDict):
    """Requests of models since the start."""

    model_stats: list[ModelStatistics]


class RegionEntry(TypedDict):
    """A registered region of shared memory."""

    name: str
    key: str
    offset: int
    byte_size: int


class Submitted(TypedDict):
    """What became of readings; by now it is on the disk."""

    accepted: int
    dropped: dict[str, int]
    windows: int
    warnings: int


class ModelFigures(ModelEntry):
    """An installed model, its requests since the start, and their times in milliseconds.

    `counts` are the requests by their time, one for each of the status' `edges_ms` and one for those
    over the last: from two looks follow the times of the requests in between. `memory_mib` is its
    worker's; null for a model that is not loaded, or runs in the daemon.
    """

    requests: int
    p50_ms: float | None
    p99_ms: float | None
    memory_mib: float | None
    counts: list[int]


class ServingFigures(TypedDict):
    """Requests of all callers together.

    `requests` and `refused` (429) count since the start; the others are of now: `running` are inside
    models and pipelines, of which `waiting` have no thread yet.
    """

    requests: int
    refused: int
    running: int
    waiting: int
    connections: int


class OutboxStatus(TypedDict):
    """What must still reach the cloud, in all and by class."""

    enqueued: int
    delivered: int
    evicted: int
    expired: int
    thinned: int
    damaged: int
    queued: int
    bytes: int
    classes: dict[str, ClassCounts]


class LinkStatus(TypedDict):
    """The connection to the cloud's broker."""

    connected: bool
    state: str
    protocol: str
    broker: str
    reason: str


class Status(TypedDict):
    """Everything at a glance."""

    device: str
    version: str
    time: float
    uptime_s: float
    ready: bool
    reasons: list[str]
    machine: Machine
    serving: ServingFigures
    edges_ms: list[float]
    models: list[ModelFigures]
    streams: list[StreamStatus]
    outbox: OutboxStatus | None
    link: LinkStatus | None
