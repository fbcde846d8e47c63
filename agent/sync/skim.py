"""Passing over a message that is too large, without holding it: only its head is kept. Pure.

A broker of MQTT 3.1.1 is not told how much a client takes. A message that is not acknowledged it sends
again with every connection; so one that is too large is read to its end, acknowledged and counted.
"""


class Skim:
    """The rest of a PUBLISH packet (MQTT 3.1.1, section 3.3) as it is passed over.

    Attributes:
        left: bytes that are still to come.
        size: of the whole, its fixed header left out.
    """

    def __init__(self, flags: int, size: int) -> None:
        """Begin behind the fixed header.

        Args:
            flags: the lower four bits of the first byte.
            size: bytes of the rest.
        """
        self.left = self.size = size
        self._qos = flags >> 1 & 3
        self._head = b""

    def feed(self, data: bytes) -> None:
        """Pass over bytes, at most `left`."""
        self.left -= len(data)
        while data and (wanted := self._head_size - len(self._head)) > 0:
            self._head, data = self._head + data[:wanted], data[wanted:]

    @property
    def topic(self) -> str:
        """Where it was published, as far as that can be read."""
        return self._head[2 : 2 + self._topic_size].decode(errors="replace")

    @property
    def mid(self) -> int | None:
        """What to acknowledge; None when nothing is to be."""
        place = 2 + self._topic_size
        number = self._head[place : place + 2]
        return int.from_bytes(number, "big") if self._qos and len(number) == 2 else None

    @property
    def _topic_size(self) -> int:
        return int.from_bytes(self._head[:2], "big")

    @property
    def _head_size(self) -> int:
        return 2 if len(self._head) < 2 else 2 + self._topic_size + (2 if self._qos else 0)
