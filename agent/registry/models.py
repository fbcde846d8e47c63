"""The loaded models, by name and version, no version twice.

A model is verified and loaded on its first use, in a thread, and stays. When another version is
activated, also by another process, `get` without a version loads that one, and the old one goes as
soon as nobody is inside it: no caller meets a moment without a model. What is loaded stays within the
memory budget: the models that were used longest ago make room, those that are pinned never.
"""

import asyncio
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from agent.engines.pool import MIB, Pool
from agent.engines.settings import ServingSettings
from agent.errors import AgentError
from agent.registry.loaded import LoadedModel
from agent.registry.loading import load
from agent.registry.registry import Registry, VerifiedModel
from agent.types import ModelRef

_log = logging.getLogger(__name__)

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


class Models:
    """What is loaded, over a registry. Used from one event loop.

    Attributes:
        pool: the account of their memory.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        settings: ServingSettings | None = None,
        pinned: Iterable[str] = (),
    ) -> None:
        """Nothing is loaded yet.

        Args:
            registry: where they come from.
            settings: how they are run, and the memory that they may take together.
            pinned: names of models that never make room for others.
        """
        self._settings = settings or ServingSettings()
        self.pool: Pool[ModelRef] = Pool(self._settings.budget or half_of_memory())
        self._registry = registry
        self._pinned = frozenset(pinned)
        self._loaded: dict[ModelRef, LoadedModel] = {}
        self._active: dict[str, LoadedModel] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._problems: dict[ModelRef, str] = {}
        self._leaving: set[asyncio.Task[None]] = set()
        self._ends = 0

    async def get(self, name: str, version: str | None = None) -> LoadedModel:
        """A model, loaded now if it is not yet; the active version when none is named.

        Raises:
            NotFound: it is not installed.
            Refused: it is not what was signed.
            BadModel, EngineMissing: it cannot run here.
            OverMemory: it does not fit beside the models that must stay.
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
            for ref in [ref for ref in self._loaded if ref.name == name]:
                await asyncio.to_thread(self._taken_out(ref).close)
                self.pool.release([ref])

    def loaded(self) -> list[LoadedModel]:
        """Every model that is loaded now."""
        return list(self._loaded.values())

    @property
    def worker_ends(self) -> int:
        """Processes of models that ended by themselves, those of models that left included."""
        return self._ends + sum(model.ends for model in self._loaded.values())

    def index(self) -> list[ModelStatus]:
        """Every installed version and whether it can be asked."""
        return [self._status(installed.ref) for installed in self._registry.list()]

    async def close(self) -> None:
        """Release every model, each after the run in progress."""
        for ref in list(self._loaded):
            self._retire(ref)
        await asyncio.gather(*self._leaving)

    async def _resolve(self, name: str, version: str | None) -> ModelRef:
        if version is not None:
            return ModelRef(name, version)
        return await asyncio.to_thread(self._registry.active, name)

    async def _load(self, ref: ModelRef, version: str | None) -> LoadedModel:
        try:
            package = await asyncio.to_thread(self._registry.open, ref.name, version)
            model = self._loaded.get(package.ref) or await self._admitted(package)
        except AgentError as error:
            self._problems[ref] = str(error)
            raise
        self._problems.pop(ref, None)
        if model.ref != ref:  # a damaged version gave way to the one before it
            self._problems[ref] = f"damaged on the disk, so that {model.ref.version} answers"
        return model

    async def _admitted(self, package: VerifiedModel) -> LoadedModel:
        """Load a package into its share of the budget."""
        ref = package.ref
        await self._make_room(package)
        try:
            model = await asyncio.to_thread(load, self._registry, package, self._settings)
        except BaseException:
            self.pool.release([ref])
            raise
        self._loaded[ref] = model
        self.pool.settle(ref, model.memory, pinned=ref.name in self._pinned)
        return model

    async def _make_room(self, package: VerifiedModel) -> None:
        for ref, model in self._loaded.items():
            self.pool.use(ref, model.used)
        size = package.manifest.resources.memory_mib * MIB
        # The version that it replaces goes as soon as this one stands, so its share is not counted.
        replaced = self._active.get(package.ref.name)
        beside = (replaced.ref,) if replaced else ()
        leaving = self.pool.admit(package.ref, size, time.monotonic(), replaced=beside)
        if leaving:
            names = ", ".join(map(str, leaving))
            _log.info("unloaded to make room", extra={"model": str(package.ref), "left": names})
        for ref in leaving:
            await asyncio.to_thread(self._taken_out(ref).close)

    def _make_active(self, name: str, model: LoadedModel) -> None:
        old = self._active.get(name)
        self._active[name] = model
        if old is not None and old is not model:
            self._retire(old.ref)

    def _retire(self, ref: ModelRef) -> None:
        """Let a model go as soon as nobody is inside it."""
        model = self._taken_out(ref)
        task = asyncio.create_task(asyncio.to_thread(model.close))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        self.pool.release([ref])

    def _taken_out(self, ref: ModelRef) -> LoadedModel:
        model = self._loaded.pop(ref)
        self._ends += model.ends
        if self._active.get(ref.name) is model:
            del self._active[ref.name]
        return model

    def _note(self, name: str, error: AgentError) -> None:
        for installed in self._registry.list():
            if installed.ref.name == name and installed.active:
                self._problems[installed.ref] = str(error)

    def _status(self, ref: ModelRef) -> ModelStatus:
        if ref in self._loaded:
            return ModelStatus(ref.name, ref.version, "READY")
        reason = self._problems.get(ref, "not loaded; it is loaded on first use")
        return ModelStatus(ref.name, ref.version, "UNAVAILABLE", reason)


def half_of_memory() -> int:
    """Half of the machine's memory, bytes: the rest is for the system and everybody else."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
