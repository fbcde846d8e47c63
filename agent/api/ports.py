"""What the local API needs of the other rooms, as small as it can be said."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from agent.engines.base import Session
from agent.errors import AgentError
from agent.pipelines.stream import StreamStatus
from agent.store.account import OutboxCounts
from agent.types import Array, ModelRef, Rows, Tensors, TensorSpec


class ManifestPort(Protocol):
    """What a model says of itself."""

    @property
    def task(self) -> str: ...
    @property
    def engine(self) -> str: ...
    @property
    def summary(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def outputs(self) -> tuple[TensorSpec, ...]: ...
    @property
    def parameters(self) -> Mapping[str, Any]: ...


class ModelPort(Protocol):
    """A loaded model."""

    @property
    def ref(self) -> ModelRef: ...
    @property
    def manifest(self) -> ManifestPort: ...
    @property
    def session(self) -> Session: ...
    @property
    def typical_s(self) -> float:
        """How long a run takes, seconds."""

    @property
    def isolated(self) -> bool:
        """Whether it runs in a process of its own."""

    @property
    def batch_gain(self) -> float:
        """How many times more requests it answers per second in batches; 0 for not at all."""

    @property
    def memory(self) -> int:
        """Of its worker, bytes; 0 for a model that runs in the daemon."""

    @property
    def companions(self) -> Mapping[str, bytes]:
        """Verified files that its task needs beside the session, by their path."""

    def run(self, tensors: Tensors) -> dict[str, Array]: ...
    def begin(
        self, tensors: Tensors, briefly_s: float
    ) -> dict[str, Array] | Callable[[], dict[str, Array]]:
        """As `run`, for the event loop: what takes longer is returned, for a thread to finish."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep it loaded meanwhile; raises NotReady when it is being unloaded already."""


class ModelStatusPort(Protocol):
    """How an installed model stands."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def reason(self) -> str: ...


class ModelsPort(Protocol):
    """The models of this device."""

    def peek(self, name: str, version: str | None = None) -> ModelPort | None: ...
    async def get(self, name: str, version: str | None = None) -> ModelPort: ...
    async def unload(self, name: str) -> None: ...
    def index(self) -> Sequence[ModelStatusPort]: ...


class ReceiptPort(Protocol):
    """What became of readings."""

    @property
    def accepted(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def windows(self) -> int: ...
    @property
    def warnings(self) -> int: ...


class PipelinesPort(Protocol):
    """The pipelines that readings go into."""

    async def submit(self, rows: Rows) -> ReceiptPort: ...
    def status(self) -> Sequence[StreamStatus]: ...


class OutboxPort(Protocol):
    """What must still reach the cloud."""

    async def counts(self) -> OutboxCounts: ...


class LinkPort(Protocol):
    """The connection to the cloud's broker."""

    @property
    def connected(self) -> bool: ...
    @property
    def state(self) -> str: ...
    @property
    def protocol(self) -> str: ...
    @property
    def broker(self) -> str: ...
    @property
    def reason(self) -> AgentError | None:
        """Why there is no connection."""
