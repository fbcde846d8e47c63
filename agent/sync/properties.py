"""The properties of MQTT 5 that go with packets; with `connection` and `client`, what knows paho."""

from typing import cast

from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from agent.sync.settings import LinkSettings

_MAX_ALIASES = 64  # more topics than a device repeats
_MAX_SEEN = 256  # topics that may come a second time


class Packed:
    """Properties that go with many messages, packed once: the library takes 20 µs to do it."""

    def __init__(self, properties: Properties) -> None:
        self._bytes: bytes = properties.pack()  # type: ignore[no-untyped-call]

    def pack(self) -> bytes:
        """As the library calls it."""
        return self._bytes


class Aliases:
    """Numbers that stand for topics on one connection (MQTT 5, section 3.3.2.3.4).

    A topic gets one when it is used for the second time: those of escalations are used once.
    """

    def __init__(self, most: int) -> None:
        """Start with none.

        Args:
            most: how many the broker takes.
        """
        self._most = min(most, _MAX_ALIASES)
        self._numbers: dict[str, int] = {}
        self._seen: dict[str, None] = {}
        self._packed: dict[int, Packed] = {}

    def packed(self, number: int) -> Packed:
        """The properties of a message that has nothing but its alias."""
        found = self._packed.get(number)
        if found is None:
            properties = _properties(PacketTypes.PUBLISH)
            properties.TopicAlias = number
            found = self._packed[number] = Packed(properties)
        return found

    def shorten(self, topic: str) -> tuple[str, int | None]:
        """What to write for a topic, and the alias to write with it."""
        if topic in self._numbers:
            return "", self._numbers[topic]
        if len(self._numbers) >= self._most:
            return topic, None
        if topic not in self._seen:
            if len(self._seen) >= _MAX_SEEN:
                del self._seen[next(iter(self._seen))]
            self._seen[topic] = None
            return topic, None
        del self._seen[topic]
        self._numbers[topic] = len(self._numbers) + 1
        return topic, self._numbers[topic]


def connect_properties(settings: LinkSettings) -> Properties:
    """What the device asks of a broker."""
    properties = _properties(PacketTypes.CONNECT)
    properties.SessionExpiryInterval = settings.session_expiry_s
    properties.ReceiveMaximum = settings.receive_window
    properties.MaximumPacketSize = settings.max_incoming
    return properties


def publish_properties(
    expires_in_s: float | None, content: tuple[str, str], alias: int | None, aliases: Aliases
) -> Properties | None:
    """What goes with a message; None when nothing does."""
    media, encoding = content
    if expires_in_s is None and not media:
        return None if alias is None else cast("Properties", aliases.packed(alias))
    properties = _properties(PacketTypes.PUBLISH)
    if expires_in_s is not None:
        properties.MessageExpiryInterval = max(1, min(int(expires_in_s), 0xFFFF_FFFF))
    if media:
        properties.ContentType = media
    if encoding:
        properties.UserProperty = ("content-encoding", encoding)
    if alias is not None:
        properties.TopicAlias = alias
    return properties


def _properties(packet_type: int) -> Properties:
    return Properties(packet_type)  # type: ignore[no-untyped-call]
