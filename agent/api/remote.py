"""What an operator can have done from afar: the verbs behind signed commands."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from agent import __version__, logs
from agent.api.service import Service
from agent.clock import rfc3339
from agent.errors import BadPayload
from agent.guard.redact import Redaction
from agent.sync.commands import Verb, only
from agent.types import ModelRef

MAX_LINES = 500  # of the log


class ReloadPort(Protocol):
    """The models that are loaded."""

    async def refresh(self) -> list[ModelRef]:
        """Load what was activated since."""


class RelearnPort(Protocol):
    """The streams that are watched."""

    async def relearn(self, stream: str) -> bool:
        """Forget what is normal for a stream."""


class Remote:
    """The verbs: ping, reload, relearn, logs and snapshot."""

    def __init__(
        self,
        service: Service,
        models: ReloadPort,
        pipelines: RelearnPort,
        redaction: Redaction,
    ) -> None:
        self._service = service
        self._models = models
        self._pipelines = pipelines
        self._redaction = redaction

    def verbs(self) -> Mapping[str, Verb]:
        """Each command's name and what carries it out."""
        found: dict[str, Callable[[Mapping[str, Any]], Awaitable[Any]]] = {
            "ping": self.ping,
            "reload": self.reload,
            "relearn": self.relearn,
            "logs": self.logs,
            "snapshot": self.snapshot,
        }
        return found

    async def ping(self, arguments: Mapping[str, Any]) -> Any:
        """Whether the device is there, and its time."""
        only(arguments)
        return {"version": __version__, "time": rfc3339(self._service.clock.wall())}

    async def reload(self, arguments: Mapping[str, Any]) -> Any:
        """Load the versions that were activated since."""
        only(arguments)
        return {"changed": [str(ref) for ref in await self._models.refresh()]}

    async def relearn(self, arguments: Mapping[str, Any]) -> Any:
        """Have a stream learn anew what is normal, for example after a repair."""
        stream = only(arguments, stream=str).get("stream")
        if not stream:
            raise BadPayload("must name a stream", where="stream")
        return {"stream": stream, "watched": await self._pipelines.relearn(stream)}

    async def logs(self, arguments: Mapping[str, Any]) -> Any:
        """The newest lines of the daemon's log, redacted."""
        wanted = only(arguments, lines=int).get("lines", 100)
        if not 1 <= wanted <= MAX_LINES:
            raise BadPayload(f"must be 1 to {MAX_LINES}", where="lines")
        return {"lines": [self._redaction.text(line) for line in logs.recent(wanted)]}

    async def snapshot(self, arguments: Mapping[str, Any]) -> Any:
        """Everything at a glance, as `edge-agent status` has it."""
        only(arguments)
        return await self._service.status()
