"""Every error that a user of the agent can meet.

Split by the caller's next move, not by where it happened:

    AgentError
    ├── Refused            these bytes or this caller may not; repeating will not help
    │   ├── Unsigned           trust.unsigned      no valid signature of a trusted key
    │   ├── Altered            trust.altered       bytes differ from what was signed
    │   ├── Expired            trust.expired       signed metadata is past its expiry
    │   ├── RolledBack         trust.rolled_back   older than what was already accepted
    │   ├── Revoked            trust.revoked       signed by a key that is trusted no longer
    │   ├── GoldenFailed       trust.golden        the model does not compute here what it must
    │   ├── NotAsGood          model.worse         a quantized model lost more than was allowed
    │   ├── EnrolmentRefused   enrolment.refused   the authority does not sign this device's certificate
    │   └── Forbidden          caller.forbidden    the caller's role does not allow it
    ├── Unavailable        not now; the same call may succeed later
    │   ├── EngineMissing      engine.missing      the engine's library is not installed
    │   ├── EngineFailed       engine.failed       the runtime failed on a valid request
    │   ├── WorkerDied         worker.died         the model's process ended; another one starts
    │   ├── NotReady           agent.not_ready     starting, stopping, or the model is loading
    │   ├── NotReachable       link.unreachable    a broker, repository or daemon does not answer
    │   └── StorageFailed      storage.failed      disk full, read-only or failing
    ├── LimitExceeded      smaller, slower or fewer
    │   ├── TooLarge           limit.size
    │   ├── TooMany            limit.rate
    │   ├── TooSlow            limit.time
    │   └── OverMemory         limit.memory        the model does not fit beside the others
    └── BadRequest         the caller must change the request
        ├── NotFound           request.not_found
        ├── BadTensor          request.tensor
        ├── BadPayload         request.payload
        ├── ContextOverflow    request.context     a prompt larger than the model's window
        ├── BadReading         request.reading
        ├── BadManifest        manifest.invalid
        ├── BadRepository      repository.invalid
        ├── BadModel           model.invalid       the engine cannot load the file
        ├── BadKey             key.invalid         a signing key cannot be read or used
        ├── BadRecording       recording.invalid
        └── BadConfig          config.invalid

Codes are stable: they appear in logs, metrics and responses, and never change meaning. Nothing here
knows HTTP, MQTT or a library's own exceptions; the rooms at the seams translate.
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class AgentError(Exception):
    """What is wrong, where, and what to do about it.

    Attributes:
        code: stable, dotted identifier.
        message: what is wrong, one sentence, no trailing full stop.
        where: file, field, topic or model concerned; empty when the message says it.
        hint: what to do next; empty when there is nothing to do.
    """

    code: ClassVar[str] = "agent.error"

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}. {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, Any]:
        """The error as it is sent to clients; empty fields are left out."""
        fields = {
            "code": self.code,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }
        return {name: value for name, value in fields.items() if value}


class Refused(AgentError):
    """These bytes or this caller may not; repeating the call will not help."""

    code = "trust.refused"


class Unsigned(Refused):
    """No valid signature of a trusted key."""

    code = "trust.unsigned"


class Altered(Refused):
    """The bytes differ from what was signed."""

    code = "trust.altered"


class Expired(Refused):
    """Signed metadata is past its expiry."""

    code = "trust.expired"


class RolledBack(Refused):
    """Older than what this device already accepted."""

    code = "trust.rolled_back"


class Revoked(Refused):
    """Signed by a key that the root trusts no longer."""

    code = "trust.revoked"


class GoldenFailed(Refused):
    """The model does not compute on this device what its golden cases say it must."""

    code = "trust.golden"


class NotAsGood(Refused):
    """A quantized model lost more of the metric than was allowed, or is slower: not packaged."""

    code = "model.worse"


class EnrolmentRefused(Refused):
    """The certificate authority does not sign for this device."""

    code = "enrolment.refused"


class Forbidden(Refused):
    """The caller's role does not allow this call."""

    code = "caller.forbidden"


class Unavailable(AgentError):
    """Not now: the same call may succeed later.

    Attributes:
        retry_after_s: a sensible pause before the next try, seconds.
    """

    code = "agent.unavailable"

    def __init__(
        self, message: str, *, where: str = "", hint: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.retry_after_s = retry_after_s


class EngineMissing(Unavailable):
    """The engine's library is not installed; the hint names the command."""

    code = "engine.missing"


class EngineFailed(Unavailable):
    """The runtime failed on a request that was valid."""

    code = "engine.failed"


class WorkerDied(Unavailable):
    """The process that ran the model ended during the request; another one is being started."""

    code = "worker.died"


class NotReady(Unavailable):
    """The agent or the model is starting or stopping."""

    code = "agent.not_ready"


class NotReachable(Unavailable):
    """A broker, a repository or the daemon does not answer."""

    code = "link.unreachable"


class StorageFailed(Unavailable):
    """The disk is full, read-only or failing; nothing was written."""

    code = "storage.failed"


class LimitExceeded(AgentError):
    """Smaller, slower or fewer."""

    code = "limit.exceeded"


class TooLarge(LimitExceeded):
    """Over a size bound; the message names the bound and its unit."""

    code = "limit.size"


class TooMany(LimitExceeded):
    """Over a rate or concurrency bound.

    Attributes:
        retry_after_s: a sensible pause before the next try, seconds.
    """

    code = "limit.rate"

    def __init__(
        self, message: str, *, where: str = "", hint: str = "", retry_after_s: float = 1.0
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.retry_after_s = retry_after_s


class TooSlow(LimitExceeded):
    """A deadline passed."""

    code = "limit.time"


class OverMemory(LimitExceeded):
    """The model does not fit into the memory that models may take; the message says by how much."""

    code = "limit.memory"


class BadRequest(AgentError):
    """The caller must change the request."""

    code = "request.invalid"


class NotFound(BadRequest):
    """No such model, version, stream, route or file."""

    code = "request.not_found"


class BadTensor(BadRequest):
    """A tensor's name, dtype, shape or byte count is not the model's."""

    code = "request.tensor"


class BadPayload(BadRequest):
    """The bytes are not the format they claim to be."""

    code = "request.payload"


class ContextOverflow(BadRequest):
    """A prompt has more tokens than the language model can look at."""

    code = "request.context"


class BadReading(BadRequest):
    """A sensor reading that cannot be understood."""

    code = "request.reading"


class BadManifest(BadRequest):
    """A model package's manifest is wrong; `where` names the field."""

    code = "manifest.invalid"


class BadRepository(BadRequest):
    """A repository's metadata cannot be understood, or is of a newer layout."""

    code = "repository.invalid"


class BadModel(BadRequest):
    """The engine cannot load the model file."""

    code = "model.invalid"


class BadKey(BadRequest):
    """A signing key's file is unreadable, unprotected, or has another passphrase."""

    code = "key.invalid"


class BadRecording(BadRequest):
    """A recording cannot be read as a table of readings."""

    code = "recording.invalid"


class BadConfig(BadRequest):
    """The configuration is wrong; `where` names file, line and key."""

    code = "config.invalid"


def from_dict(fields: Mapping[str, Any]) -> AgentError:
    """The error that `to_dict` made these fields of.

    Raises:
        LookupError: no error has this code.
        TypeError: a field is missing, unknown or not text.
    """
    rest = dict(fields)
    error = _by_code(AgentError)[rest.pop("code")]
    if not all(isinstance(value, str) for value in rest.values()):
        raise TypeError("an error's fields are text")
    return error(**rest)


def _by_code(root: type[AgentError]) -> dict[str, type[AgentError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _by_code(child)
    return found
