"""The cloud side of the sync, at its smallest: subscribe, drop repeats by id, count.

Delivery is at least once, so the same message may arrive again after a cut; its id says that it is
the same. `Ledger` holds that rule without a network; `Receiver` feeds one from a broker.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from agent.errors import AgentError, NotReachable
from agent.sync.batches import unpack
from agent.sync.settings import BrokerAddress

REMEMBERED_IDS = 1_000_000
CONNECT_TIMEOUT_S = 10.0


class _Identified(msgspec.Struct):
    id: str
    kind: str = msgspec.field(name="class", default="")


_decoder = msgspec.json.Decoder(_Identified)


@dataclass
class Ledger:
    """What arrived, each id counted once.

    Attributes:
        arrived: messages, repeats included.
        repeats: messages whose id was there before.
        nameless: messages without an id; they cannot be told from repeats and count as new.
        by_class: new messages of each class.
        remember: ids kept; the oldest are forgotten first.
    """

    arrived: int = 0
    repeats: int = 0
    nameless: int = 0
    by_class: dict[str, int] = field(default_factory=dict)
    remember: int = REMEMBERED_IDS
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict)

    @property
    def unique(self) -> int:
        """Messages, repeats dropped."""
        return self.arrived - self.repeats

    @property
    def ids(self) -> frozenset[str]:
        """The ids that are remembered."""
        return frozenset(self._ids)

    def note(self, payload: bytes) -> bool:
        """Count a message; False when it is a repeat."""
        self.arrived += 1
        try:
            message = _decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.nameless += 1
            return True
        if message.id in self._ids:
            self.repeats += 1
            return False
        self._remember(message.id)
        self.by_class[message.kind] = self.by_class.get(message.kind, 0) + 1
        return True

    def _remember(self, id_: str) -> None:
        self._ids[id_] = None
        if len(self._ids) > self.remember:
            self._ids.popitem(last=False)


class Receiver:
    """Subscribes at QoS 1 with a session that survives cuts, and keeps a ledger.

    Attributes:
        ledger: what arrived so far.
    """

    def __init__(
        self,
        broker: str,
        topic_filter: str,
        *,
        client_id: str = "edge-receiver",
        on_new: Callable[[str, bytes], None] | None = None,
    ) -> None:
        """Prepare to receive.

        Args:
            broker: address, ``mqtt://host:port``.
            topic_filter: what to subscribe to.
            client_id: names the session that the broker keeps.
            on_new: called in the network thread with topic and payload of everything that is no
                repeat.
        """
        self.ledger = Ledger()
        self._address = BrokerAddress.parse(broker)
        self._filter = topic_filter
        self._on_new = on_new
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=MQTTProtocolVersion.MQTTv311,  # every broker has it
            clean_session=False,
        )
        self._client.reconnect_delay_set(min_delay=1, max_delay=2)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message

    def start(self) -> None:
        """Connect and subscribe; returns once the broker has confirmed it.

        Raises:
            NotReachable: no broker, or it does not confirm.
        """
        try:
            self._client.connect(self._address.host, self._address.port)
        except OSError as error:
            raise NotReachable(f"cannot connect: {error}", where=str(self._address)) from error
        self._client.loop_start()
        if not self._subscribed.wait(CONNECT_TIMEOUT_S):
            self.close()
            raise NotReachable("the broker did not confirm", where=str(self._address))

    def close(self) -> None:
        """Disconnect. Idempotent."""
        self._client.disconnect()
        self._client.loop_stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _on_connect(
        self, client: paho.Client, _u: object, _f: object, reason: Any, _p: object
    ) -> None:
        if not reason.is_failure:
            client.subscribe(self._filter, qos=1)

    def _on_subscribe(self, *_: object) -> None:
        self._subscribed.set()

    def _on_message(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        for payload in self._unpacked(bytes(message.payload)):
            if self.ledger.note(payload) and self._on_new:
                self._on_new(message.topic, payload)

    @staticmethod
    def _unpacked(payload: bytes) -> list[bytes]:
        """The messages of a batch; what cannot be unpacked is counted as it came."""
        try:
            return unpack(payload)
        except AgentError:
            return [payload]
