"""A session without a runtime, able to be slow, to fail and to crash."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Any

import numpy as np

from agent.engines.base import NUMPY_DTYPES, Session
from agent.errors import NotFound
from agent.types import Array, ModelRef, Tensors, TensorSpec


class FakeSession(Session):
    """Computes `function` on the inputs; by default each output is the input of the same place.

    Attributes:
        runs: how often it ran.
        delay_s: how long each run takes.
        failure: raised by each run.
        gate: each run waits until it is set.
    """

    def __init__(
        self,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        function: Callable[..., Sequence[Array]] | None = None,
    ) -> None:
        super().__init__(inputs, outputs)
        self.runs = 0
        self.delay_s = 0.0
        self.failure: BaseException | None = None
        self.gate = Event()
        self.gate.set()
        self._function = function

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        self.runs += 1
        self.gate.wait(10)
        time.sleep(self.delay_s)
        if self.failure is not None:
            raise self.failure
        return self._function(*arrays) if self._function else list(arrays)

    def _close(self) -> None:
        self.gate.set()


@dataclass(frozen=True)
class FakeManifest:
    """What a package's manifest says, of the parts that serving needs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: str = "tensor"
    engine: str = "onnx"
    summary: str = "computes nothing of use"
    parameters: Mapping[str, Any] = field(default_factory=dict)


class FakeModel:
    """A loaded model over any session."""

    def __init__(
        self,
        session: Session,
        name: str = "echo",
        version: str = "1.0.0",
        *,
        typical_s: float = 1e-5,
        manifest: FakeManifest | None = None,
        batch_gain: float = 0.0,
        isolated: bool = False,
    ) -> None:
        self.isolated = isolated
        self.batch_gain = batch_gain
        self.memory = 0
        self.companions: Mapping[str, bytes] = {}
        self.ref = ModelRef(name, version)
        self.session = session
        self.typical_s = typical_s
        self.manifest = manifest or FakeManifest(session.inputs, session.outputs)
        self._lock = Lock()

    def run(self, tensors: Tensors) -> dict[str, Array]:
        with self._lock:
            return self.session.run(tensors)

    def begin(self, tensors: Tensors, briefly_s: float) -> dict[str, Array]:
        return self.run(tensors)

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass(frozen=True)
class FakeModelStatus:
    """How a model stands."""

    name: str
    version: str
    state: str = "READY"
    reason: str = ""


class FakeModels:
    """Models in memory; those of `cold` are there, but loaded only when they are asked for."""

    peek_first: FakeModel | None = None  # what the next `peek` still sees

    def __init__(self, *models: FakeModel, cold: Sequence[FakeModel] = ()) -> None:
        self._loaded = {model.ref: model for model in models}
        self._cold = {model.ref: model for model in cold}

    def replace(self, old: FakeModel, new: FakeModel) -> None:
        """Another version answers from now on."""
        del self._loaded[old.ref]
        self._loaded[new.ref] = new

    def peek(self, name: str, version: str | None = None) -> FakeModel | None:
        seen, self.peek_first = self.peek_first, None
        if seen is not None:
            return seen
        return _find(self._loaded, name, version)

    async def get(self, name: str, version: str | None = None) -> FakeModel:
        model = _find(self._loaded, name, version) or _find(self._cold, name, version)
        if model is None:
            raise NotFound("there is no such model", where=f"{name} {version or ''}".strip())
        self._loaded[model.ref] = model
        return model

    async def unload(self, name: str) -> None:
        for ref in [ref for ref in self._loaded if ref.name == name]:
            self._cold[ref] = self._loaded.pop(ref)

    def index(self) -> list[FakeModelStatus]:
        cold = sorted(set(self._cold) - set(self._loaded))
        return [
            *(FakeModelStatus(ref.name, ref.version) for ref in sorted(self._loaded)),
            *(FakeModelStatus(ref.name, ref.version, "UNAVAILABLE", "not loaded") for ref in cold),
        ]


def _find(models: Mapping[ModelRef, FakeModel], name: str, version: str | None) -> FakeModel | None:
    found = [m for ref, m in models.items() if ref.name == name and version in {None, ref.version}]
    return found[-1] if found else None


def echo(*specs: TensorSpec, **changes: Any) -> FakeModel:
    """A model that answers each input ``x`` as the output ``x``."""
    return FakeModel(FakeSession(specs, specs), **changes)


def zeros(spec: TensorSpec) -> Array:
    """An input that fits, free sizes at 1."""
    shape = [max(size, 1) for size in spec.shape]
    return np.zeros(shape, dtype=NUMPY_DTYPES[spec.dtype])
