"""What the cloud may say to this device: answers, commands and desired settings, started as one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.api.remote import Remote
from agent.api.tunable import escalation_groups, log_group, pipeline_groups, sync_group
from agent.clock import Clock
from agent.logs import LogLevel
from agent.pipelines.spec import PipelineSpec
from agent.store.db import Database
from agent.sync.commands import Commands
from agent.sync.escalation import Escalations
from agent.sync.link import Link
from agent.sync.orders import CommandSettings
from agent.sync.policy import EscalationPolicy, EscalationSettings, Policies
from agent.sync.topics import Topics
from agent.sync.twin import Twin
from agent.sync.uplink import Uplink
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from agent.api.service import Service
    from agent.pipelines.runner import Pipelines
    from agent.registry import Models


@dataclass(frozen=True, slots=True)
class CloudSettings:
    """What of the configuration is about it.

    Attributes:
        escalation: of all escalations.
        policies: by name.
        commands: who may send them.
        pipelines: whose settings may be changed.
        log_level: where nothing is desired.
    """

    escalation: EscalationSettings
    policies: tuple[EscalationPolicy, ...]
    commands: CommandSettings
    pipelines: tuple[PipelineSpec, ...]
    log_level: LogLevel


class Cloud:
    """Listens before the link connects, obeys once everything is there.

    Attributes:
        escalations: questions to people and larger models.
    """

    def __init__(
        self,
        settings: CloudSettings,
        database: Database,
        *,
        topics: Topics,
        clock: Clock,
        events: EventBus,
        metrics: Metrics,
        not_before: Callable[[], float],
    ) -> None:
        """Build the parts; `not_before` is a wall time that is known to have been."""
        self._settings = settings
        self.escalations = Escalations(
            database, topics=topics, clock=clock, events=events, metrics=metrics,
            settings=settings.escalation, policies=Policies(settings.policies),
        )  # fmt: skip
        self._commands = Commands(
            database, topics=topics, clock=clock, events=events, metrics=metrics,
            settings=settings.commands, not_before=not_before,
        )  # fmt: skip
        self._twin = Twin(database, topics=topics, clock=clock, events=events)

    def start(self, link: Link) -> None:
        """Subscribe; before the link connects, since a session's messages come first."""
        self.escalations.start(link)
        self._commands.start(link)
        self._twin.start(link)

    async def obey(
        self,
        service: "Service",
        models: "Models",
        pipelines: "Pipelines",
        link: Link,
        uplink: Uplink,
    ) -> None:
        """Everything is there that commands and settings are about: let them take effect.

        Raises:
            StorageFailed: what was desired before cannot be read.
        """
        settings = self._settings
        remote = Remote(service, models, pipelines, settings.escalation.redaction)
        self._commands.serve(remote.verbs())
        await self._twin.serve(
            [
                log_group(settings.log_level),
                sync_group(link.settings, uplink),
                *pipeline_groups(settings.pipelines, pipelines),
                *escalation_groups(self.escalations, settings.policies),
            ]
        )

    async def close(self) -> None:
        """Take no more; what is not settled comes again. Idempotent."""
        await self._twin.close()
        await self._commands.close()
        await self.escalations.close()
