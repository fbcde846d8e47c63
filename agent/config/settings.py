"""The whole configuration: one class a table, most of them the rooms' own."""

import dataclasses
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.api.settings import ApiSettings
from agent.engines.settings import ServingSettings
from agent.errors import BadConfig
from agent.identity.settings import EnrolmentSettings
from agent.logs import LogFormat, LogLevel
from agent.pipelines.spec import PipelineLimits, PipelineSpec
from agent.store.outbox import OutboxLimits
from agent.sync.orders import CommandSettings
from agent.sync.policy import EscalationPolicy, EscalationSettings
from agent.sync.settings import LinkSettings

#: Tables whose keys the environment can set.
ENVIRONMENT_TABLES = (
    "device",
    "daemon",
    "models",
    "serving",
    "api",
    "sync",
    "enrolment",
    "outbox",
    "pipelines",
    "escalation",
    "commands",
)

_SEGMENT = re.compile(r"[^/+#\s\x00-\x1f]{1,64}")


def _host_name() -> str:
    return re.sub(r"[/+#\s]", "-", socket.gethostname())[:64] or "edge-device"


@dataclass(frozen=True, slots=True)
class DeviceSettings:
    """Who this device is, and where it keeps what must survive a restart.

    Attributes:
        id: the device's name in topics and messages; the host name by default.
        topic_prefix: first part of every topic.
        state: directory of the database, the models and the trust root.
    """

    id: str = field(default_factory=_host_name)
    topic_prefix: str = "edge"
    state: Path = Path("/var/lib/edge-agent")

    def __post_init__(self) -> None:
        if not _SEGMENT.fullmatch(self.id):
            raise BadConfig("must be 1 to 64 characters without / + # or spaces", where="id")
        if not all(_SEGMENT.fullmatch(part) for part in self.topic_prefix.split("/")):
            raise BadConfig("must be parts of a topic, such as plant/hall-2", where="topic_prefix")

    @property
    def database(self) -> Path:
        """Outbox, streams and what else the device must remember."""
        return self.state / "agent.db"

    @property
    def identity(self) -> Path:
        """The device's key and certificate, once it is enrolled."""
        return self.state / "identity"

    @property
    def models(self) -> Path:
        """Installed models and the trust root."""
        return self.state / "models"


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """The process itself.

    Attributes:
        log_level: the least important line that is still written.
        log_format: text for a journal, json for a collector.
        stop_deadline_s: how long a stop may take to finish what is under way, seconds.
    """

    log_level: LogLevel = "info"
    log_format: LogFormat = "text"
    stop_deadline_s: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.stop_deadline_s <= 300:
            raise BadConfig("must be above 0 and at most 300 seconds", where="stop_deadline_s")


@dataclass(frozen=True, slots=True)
class ModelsSettings:
    """Where models come from, and which are loaded at the start.

    Attributes:
        repository: where `edge-agent models install` looks: a directory, https://… or mqtt://….
        ca_file: certificates to trust instead of the system's, for https.
        certificate_file: the device's own certificate (PEM), for a web server that asks for one.
        key_file: the certificate's private key (PEM).
        preload: names of installed models to load at the start instead of at their first use.
    """

    repository: str = ""
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    preload: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.key_file is not None and self.certificate_file is None:
            raise BadConfig("a key needs its certificate", where="certificate_file")


@dataclass(frozen=True, slots=True)
class SourceSettings:
    """Readings that arrive by MQTT, for example from sensors on a local broker.

    Attributes:
        topics: filters to subscribe to; sensors/<stream>/<sensor> or sensors/<stream>.
        link: the broker, with the same keys as the table sync.
    """

    topics: tuple[str, ...] = ("sensors/#",)
    link: LinkSettings = field(default_factory=LinkSettings)

    def __post_init__(self) -> None:
        if not self.topics or "" in self.topics:
            raise BadConfig("must hold at least one filter, and no empty one", where="topics")
        if self.link.sparkplug_group:
            raise BadConfig(
                "is the table sync's alone: a source only listens", where="link.sparkplug_group"
            )


@dataclass(frozen=True, slots=True)
class Config:
    """Everything an operator can choose; each table is described by its own class."""

    device: DeviceSettings = field(default_factory=DeviceSettings)
    daemon: DaemonSettings = field(default_factory=DaemonSettings)
    models: ModelsSettings = field(default_factory=ModelsSettings)
    serving: ServingSettings = field(default_factory=ServingSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    sync: LinkSettings | None = None
    enrolment: EnrolmentSettings = field(default_factory=EnrolmentSettings)
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    pipelines: PipelineLimits = field(default_factory=PipelineLimits)
    escalation: EscalationSettings = field(default_factory=EscalationSettings)
    policy: tuple[EscalationPolicy, ...] = ()
    commands: CommandSettings = field(default_factory=CommandSettings)
    pipeline: tuple[PipelineSpec, ...] = ()
    source: tuple[SourceSettings, ...] = ()

    def __post_init__(self) -> None:
        _refuse_repeats("pipeline", [spec.name for spec in self.pipeline])
        _refuse_repeats("policy", [policy.name for policy in self.policy])

    def anchored(self, base: Path) -> "Config":
        """The same with relative paths made relative to `base`, the file's own directory."""
        config: Config = _anchor(self, base.absolute())
        repository = self.models.repository
        if repository and "://" not in repository:
            repository = str(base.absolute() / repository)
        models = dataclasses.replace(config.models, repository=repository)
        return dataclasses.replace(config, models=models)

    def brokers(self) -> tuple[str, ...]:
        """Every broker that the device speaks to: the cloud's first, then the sources'."""
        links = [self.sync] if self.sync else []
        links += [source.link for source in self.source]
        return tuple(url for link in links for url in link.brokers)


def _refuse_repeats(table: str, names: Sequence[str]) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise BadConfig(f'a second {table} is named "{name}"', where=table)


def _anchor(value: Any, base: Path) -> Any:
    if isinstance(value, Path):
        return base / value
    if isinstance(value, tuple):
        return tuple(_anchor(item, base) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (item.name for item in dataclasses.fields(value) if item.init)
        return dataclasses.replace(value, **{n: _anchor(getattr(value, n), base) for n in fields})
    return value
