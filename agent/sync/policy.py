"""What may leave the device with an escalation, and when one is made. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from agent.errors import BadConfig, NotFound
from agent.guard.redact import Redaction
from agent.ranges import check_range

DEFAULT_CONTEXT = ("question", "output", "labels", "language")


@dataclass(frozen=True, slots=True)
class EscalationSettings:
    """How long escalations are open, and what is never sent.

    Attributes:
        deadline_s: an answer is wanted within this, seconds, where the caller does not say.
        max_waiting: requests that may wait for an answer at once; others are told to come back.
        redaction: what is replaced in every text before it is stored or sent.
    """

    deadline_s: float = 86_400.0
    max_waiting: int = 64
    redaction: Redaction = field(default_factory=Redaction)

    def __post_init__(self) -> None:
        check_range("deadline_s", self.deadline_s, 1.0, 30 * 86_400.0)
        check_range("max_waiting", self.max_waiting, 1, 10_000)


@dataclass(frozen=True, slots=True)
class EscalationPolicy:
    """What may leave the device with an escalation, and which answers of models become one.

    Attributes:
        name: by which callers choose it; "default" replaces the built-in one.
        models: patterns of model names; answers of these become escalations by themselves when the
            confidence is too low.
        below: confidence that is too low, 0 to 1; 0 takes the model's own threshold.
        context: fields of the caller's context that are sent, after redaction; the others stay.
        send_input: whether the input itself is sent, after redaction; off, only its digest is.
        send_image: whether an image is sent, with the caller's regions and `blank` blanked.
        blank: regions that are always black, each as x,y,width,height in pixels.
    """

    name: str
    models: tuple[str, ...] = ()
    below: float = 0.0
    context: tuple[str, ...] = DEFAULT_CONTEXT
    send_input: bool = False
    send_image: bool = False
    blank: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.name or len(self.name) > 64:
            raise BadConfig("must be 1 to 64 characters", where="name")
        check_range("below", self.below, 0.0, 1.0)
        for text in self.blank:
            parse_region(text)

    def takes(self, model: str) -> bool:
        """Whether answers of this model become escalations when they are in doubt."""
        return any(fnmatchcase(model, pattern) for pattern in self.models)


def parse_region(text: str) -> tuple[int, int, int, int]:
    """``x,y,width,height`` as numbers.

    Raises:
        BadConfig: the text is none.
    """
    try:
        x, y, width, height = (int(part) for part in text.split(","))
    except ValueError:
        raise BadConfig(
            f"{text!r} is no region", where="blank", hint="Write x,y,width,height in pixels"
        ) from None
    return x, y, width, height


class Policies:
    """The policies of a device, by name."""

    def __init__(self, policies: Sequence[EscalationPolicy] = ()) -> None:
        self._by_name = {"default": EscalationPolicy("default")}
        self._by_name |= {policy.name: policy for policy in policies}

    def put(self, policy: EscalationPolicy) -> None:
        """Add a policy, or replace the one of its name."""
        self._by_name[policy.name] = policy

    def named(self, name: str) -> EscalationPolicy:
        """The policy of this name.

        Raises:
            NotFound: there is none.
        """
        if name not in self._by_name:
            known = ", ".join(sorted(self._by_name))
            raise NotFound("there is no such policy", where=name[:64], hint=f"Known: {known}")
        return self._by_name[name]

    def of_model(self, model: str) -> EscalationPolicy | None:
        """The first policy by which answers of this model become escalations."""
        return next((policy for policy in self._by_name.values() if policy.takes(model)), None)
