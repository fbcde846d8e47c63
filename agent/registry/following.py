"""Keeps the loaded models up to date with what is active, also when another process changes that."""

import asyncio
import contextlib
import logging
from pathlib import Path

from agent.errors import AgentError
from agent.registry.models import Models
from agent.registry.watch import Watch

_log = logging.getLogger(__name__)


class Following:
    """Loads a version of a model in use as soon as it is activated. Used from one event loop."""

    def __init__(self, models: Models, directory: Path) -> None:
        """Args: models: to be kept up to date. directory: of their registry; it is made if need be."""
        self._models = models
        self._directory = directory
        self._watch: Watch | None = None
        self._stale = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Follow from now on. A directory that cannot be watched is logged: a load request mends it."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._watch = Watch(self._directory, lambda name: name == "state.json")
        except OSError as error:
            _log.warning("activations are not noticed by themselves: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._watch.descriptor, self._look)
        self._task = asyncio.create_task(self._follow(), name="models")

    async def close(self) -> None:
        """Follow no longer. Idempotent."""
        if self._watch is not None:
            asyncio.get_running_loop().remove_reader(self._watch.descriptor)
            self._watch.close()
            self._watch = None
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def _look(self) -> None:
        if self._watch is not None and self._watch.changed():
            self._stale.set()

    async def _follow(self) -> None:
        while True:
            await self._stale.wait()
            self._stale.clear()
            try:
                for ref in await self._models.refresh():
                    _log.info("answers from now on", extra={"model": str(ref)})
            except AgentError as error:
                _log.warning("cannot see which models are active: %s", error)
