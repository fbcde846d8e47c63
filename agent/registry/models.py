"""The loaded models, by name and version, no version twice.

A model is verified and loaded on its first use, in a thread, and stays. When another version is
activated, also by another process, `get` without a version loads that one and forgets the old one.
Who holds the old one may go on with it: no caller meets a moment without a model.
"""

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agent.engines.base import NUMPY_DTYPES, Session
from agent.errors import AgentError
from agent.registry.golden import golden_inputs
from agent.registry.registry import Registry, VerifiedModel
from agent.registry.trial import load_checked
from agent.types import Array, ModelRef, Tensors, TensorSpec

TIMED_RUNS = 3  # the fastest of so many is what a run typically takes

State = Literal["READY", "UNAVAILABLE"]


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """How an installed model stands.

    Attributes:
        name, version: which.
        state: READY when it can be asked now.
        reason: why not; empty when it is ready.
    """

    name: str
    version: str
    state: State
    reason: str = ""


class LoadedModel:
    """A verified model in memory. Safe to call from several threads; runs one at a time.

    Attributes:
        ref: name and version.
        manifest: what its author promises.
        session: the engine's.
        typical_s: what a run takes, measured at load on a golden input or zeros, seconds.
    """

    def __init__(self, model: VerifiedModel, session: Session) -> None:
        self.ref = model.ref
        self.manifest = model.manifest
        self.session = session
        self._lock = threading.Lock()
        self.typical_s = self._measure(golden_inputs(model.manifest, model.files))

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One inference. Raises as `Session.run`."""
        with self._lock:
            return self.session.run(tensors)

    def close(self) -> None:
        """Release the engine's memory after the run in progress. Idempotent."""
        with self._lock:
            self.session.close()

    def _measure(self, inputs: Tensors | None) -> float:
        tensors = inputs or {spec.name: _zeros(spec) for spec in self.session.inputs}
        return min(self._timed(tensors) for _ in range(TIMED_RUNS))

    def _timed(self, tensors: Tensors) -> float:
        start = time.perf_counter()
        self.run(tensors)
        return time.perf_counter() - start


class Models:
    """What is loaded, over a registry. Used from one event loop."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._loaded: dict[ModelRef, LoadedModel] = {}
        self._active: dict[str, LoadedModel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._problems: dict[ModelRef, str] = {}

    async def get(self, name: str, version: str | None = None) -> LoadedModel:
        """A model, loaded now if it is not yet; the active version when none is named.

        Raises:
            NotFound: it is not installed.
            Refused: it is not what was signed.
            BadModel, EngineMissing: it cannot run here.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            ref = await self._resolve(name, version)
            model = self._loaded.get(ref) or await self._load(ref, version)
            if version is None:
                self._make_active(name, model)
            return model

    def peek(self, name: str, version: str | None = None) -> LoadedModel | None:
        """A model if it is loaded; touches nothing else."""
        if version is None:
            return self._active.get(name)
        return self._loaded.get(ModelRef(name, version))

    async def refresh(self) -> list[ModelRef]:
        """Load what was activated since, of the names in use, and forget the old versions.

        Returns:
            The versions that answer now and did not before. A version that cannot be loaded is
            reported by `index`, and the one before it goes on answering.
        """
        before = {name: model.ref for name, model in self._active.items()}
        for name in before:
            try:
                await self.get(name)
            except AgentError as error:
                self._note(name, error)
        return [m.ref for name, m in self._active.items() if before.get(name) != m.ref]

    async def unload(self, name: str) -> None:
        """Let every loaded version of a model go, each after its run in progress.

        The next `get` loads it again.
        """
        async with self._locks.setdefault(name, asyncio.Lock()):
            self._active.pop(name, None)
            for ref in [ref for ref in self._loaded if ref.name == name]:
                await asyncio.to_thread(self._loaded.pop(ref).close)

    def index(self) -> list[ModelStatus]:
        """Every installed version and whether it can be asked."""
        return [self._status(installed.ref) for installed in self._registry.list()]

    async def close(self) -> None:
        """Release every model, each after the run in progress."""
        models = list(self._loaded.values())
        self._loaded.clear()
        self._active.clear()
        for model in models:
            await asyncio.to_thread(model.close)

    async def _resolve(self, name: str, version: str | None) -> ModelRef:
        if version is not None:
            return ModelRef(name, version)
        return await asyncio.to_thread(self._registry.active, name)

    async def _load(self, ref: ModelRef, version: str | None) -> LoadedModel:
        try:
            model = await asyncio.to_thread(_load, self._registry, ref.name, version)
        except AgentError as error:
            self._problems[ref] = str(error)
            raise
        self._problems.pop(ref, None)
        if model.ref != ref:  # a damaged version gave way to the one before it
            self._problems[ref] = f"damaged on the disk, so that {model.ref.version} answers"
        kept = self._loaded.setdefault(model.ref, model)
        if kept is not model:
            model.close()
        return kept

    def _make_active(self, name: str, model: LoadedModel) -> None:
        old = self._active.get(name)
        self._active[name] = model
        if old is not None and old is not model:
            # Not closed: a stream may be in the middle of it. Its memory goes with its last holder.
            self._loaded.pop(old.ref, None)

    def _note(self, name: str, error: AgentError) -> None:
        for installed in self._registry.list():
            if installed.ref.name == name and installed.active:
                self._problems[installed.ref] = str(error)

    def _status(self, ref: ModelRef) -> ModelStatus:
        if ref in self._loaded:
            return ModelStatus(ref.name, ref.version, "READY")
        reason = self._problems.get(ref, "not loaded; it is loaded on first use")
        return ModelStatus(ref.name, ref.version, "UNAVAILABLE", reason)


def _load(registry: Registry, name: str, version: str | None) -> LoadedModel:
    model = registry.open(name, version)
    session = load_checked(model.manifest, model.files)
    try:
        return LoadedModel(model, session)
    except BaseException:
        session.close()
        raise


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    fill = b"" if spec.dtype == "BYTES" else 0
    return np.full(shape, fill, dtype=NUMPY_DTYPES[spec.dtype])
