"""How a row of the outbox looks on the wire. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from agent.store.account import Queued


@dataclass(frozen=True, slots=True)
class Frame:
    """A message to the broker.

    Attributes:
        topic: without wildcards.
        payload: any bytes.
        content_type: media type of the payload, told with MQTT 5; empty for none.
        encoding: of the payload, told as the user property content-encoding; empty for none.
        qos: 1 is acknowledged by the broker; 0 is not, and goes whatever else is in flight.
    """

    topic: str
    payload: bytes
    qos: Literal[0, 1] = 1
    content_type: str = ""
    encoding: str = ""


class Wire(Protocol):
    """Translates rows when they go."""

    def begin(self) -> Sequence[Frame]:
        """A connection begins: what goes before everything else."""

    def frames(self, row: Queued) -> Sequence[Frame]:
        """What to send for a row; the last frame is the row's own and is acknowledged."""


class PlainWire:
    """Rows go as they were written."""

    def begin(self) -> Sequence[Frame]:
        """Nothing."""
        return ()

    def frames(self, row: Queued) -> Sequence[Frame]:
        """The row's message."""
        return (Frame(row.message.topic, row.message.payload),)
