"""Every topic the device uses, with ``{p}`` a configurable prefix. Pure."""

from dataclasses import dataclass

from agent.errors import BadConfig

MAX_LEVEL = 128  # characters of one name used as a level


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one device.

    Attributes:
        prefix: first levels of every topic; may hold several levels, ``plant-7/edge``.
        device: the device's name, one level.
    """

    prefix: str
    device: str

    def __post_init__(self) -> None:
        for part in self.prefix.split("/"):
            _check(part, "prefix")
        _check(self.device, "device")

    @property
    def root(self) -> str:
        """What all topics of this device begin with."""
        return f"{self.prefix}/d/{self.device}"

    @property
    def status(self) -> str:
        """Retained: online or offline."""
        return f"{self.root}/status"

    def telemetry(self, stream: str) -> str:
        """Summaries of a stream; a stream's name may have several levels."""
        return f"{self.root}/telemetry/" + "/".join(map(level, stream.split("/")))

    def escalation(self, id_: str) -> str:
        """What needs a person or a larger model."""
        return f"{self.root}/escalation/{level(id_)}"

    def answer(self, id_: str) -> str:
        """The answer to an escalation."""
        return f"{self.escalation(id_)}/answer"

    @property
    def answers(self) -> str:
        """Filter: the answers to every escalation of this device."""
        return f"{self.root}/escalation/+/answer"

    @property
    def desired(self) -> str:
        """Retained: what the operator wants."""
        return f"{self.root}/twin/desired"

    @property
    def reported(self) -> str:
        """Retained: what the device made of it."""
        return f"{self.root}/twin/reported"

    def command(self, name: str, id_: str) -> str:
        """Something to be done once."""
        return f"{self.root}/command/{level(name)}/{level(id_)}"

    @property
    def commands(self) -> str:
        """Filter: every command for this device."""
        return f"{self.root}/command/+/+"

    def result(self, name: str, id_: str) -> str:
        """What became of a command."""
        return f"{self.command(name, id_)}/result"

    def report(self, kind: str) -> str:
        """Outcomes and health."""
        return f"{self.root}/report/{level(kind)}"


def level(name: str) -> str:
    """A name as one level of a topic: what MQTT gives a meaning is replaced.

    Two names that differ only in such characters share a level, so the name itself belongs in the
    payload as well.
    """
    clean = "".join("_" if char in "/+#" or not char.isprintable() else char for char in name)
    return clean[:MAX_LEVEL].lstrip("$") or "_"


def matches(topic_filter: str, topic: str) -> bool:
    """Whether a topic falls under a filter with ``+`` and ``#`` (MQTT 5, section 4.7)."""
    if topic.startswith("$") and topic_filter[:1] in {"+", "#"}:
        return False
    wanted, levels = topic_filter.split("/"), topic.split("/")
    if wanted[-1] == "#":
        wanted.pop()
        levels = levels[: len(wanted)]
    return len(wanted) == len(levels) and all(
        want in {"+", have} for want, have in zip(wanted, levels, strict=True)
    )


def _check(part: str, where: str) -> None:
    if not part or level(part) != part:
        raise BadConfig(
            f"{part!r} cannot be a level of an MQTT topic",
            where=where,
            hint="Use letters, digits, dots, dashes and underscores.",
        )
