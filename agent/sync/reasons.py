"""What went wrong with a broker, in words that say what to do."""

import ssl
from typing import Protocol

from agent.errors import AgentError, NotReachable, TooLarge
from agent.sync.attempts import Ending
from agent.sync.settings import BrokerAddress

_MAX_WORDS = 200  # characters of a broker's own explanation


class Ended(Exception):
    """A connection ended; carries how, and why in words."""

    def __init__(self, how: Ending, error: AgentError) -> None:
        super().__init__(str(error))
        self.how = how
        self.error = error


class ReasonCode(Protocol):
    """A reason as MQTT numbers and the library names it."""

    @property
    def value(self) -> int: ...


def words(reason: ReasonCode, properties: object) -> str:
    """A reason code, and the broker's own words if it has any."""
    own = getattr(properties, "ReasonString", "")
    return f"{reason} ({reason.value})" + (f", {own[:_MAX_WORDS]}" if own else "")


def unreachable(address: BrokerAddress, error: Exception) -> NotReachable:
    """No connection: name, route, TCP, TLS or WebSocket."""
    hint = "Check the address, and that the broker runs and can be reached from here."
    if isinstance(error, ssl.SSLError):
        hint = "Check the certificates: ca_file, certificate_file, key_file."
    return NotReachable(f"cannot connect: {error}", where=str(address), hint=hint)


def taken_over(broker: str, client_id: str) -> NotReachable:
    """Two clients take the session from each other."""
    return NotReachable(
        f"another client connects with this device's identifier, {client_id!r}",
        where=broker,
        hint="Give each device a name of its own.",
    )


def hangs_up(broker: str, client_id: str) -> NotReachable:
    """Connections die young, one after the other, and the broker does not say why."""
    return NotReachable(
        f"the broker hangs up again and again; another client may use this device's identifier, {client_id!r}",
        where=broker,
        hint="Give each device a name of its own, or read the broker's log.",
    )


def over_limit(limit: int, topic: str) -> TooLarge:
    """Sent, it would make the broker end the connection."""
    return TooLarge(f"the broker takes packets of at most {limit} bytes", where=topic)


def fault(error: Exception) -> NotReachable:
    """Something that no broker should be able to cause; the log has the details."""
    return NotReachable(f"the link itself failed ({type(error).__name__}); see the log")
