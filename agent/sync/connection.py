"""One connection to a broker, from dialling to its end. With `client`, the only file that knows paho.

paho speaks MQTT; everything around it is done here: it runs inside the event loop without a thread
of its own and without polling, each connection has a fresh client (what is to be sent again comes
from the outbox, not from the library's memory), and every end has a reason that a person understands.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from agent.errors import AgentError, BadRequest, NotReachable
from agent.sync.attempts import Ending, Protocol
from agent.sync.client import DialledClient, Oversized
from agent.sync.dial import in_thread, password, tls_context
from agent.sync.properties import Aliases, connect_properties, publish_properties
from agent.sync.reasons import Ended, over_limit, taken_over, unreachable, words
from agent.sync.settings import BrokerAddress, LinkSettings, Will
from agent.sync.skim import Skim
from agent.sync.transport import Transport

OnAck = Callable[[AgentError | None], None]
Receive = Callable[[str, bytes, bool, Callable[[], None]], None]

log = logging.getLogger(__name__)

_TAKEN_OVER = 0x8E  # reason code 142, MQTT 5 section 3.14.2.1
_WRONG_VERSION = 0x84
_PUBLISH = 3
_PACKET_OVERHEAD = 64  # bytes a PUBLISH may take beside topic and payload
_FILTERS = 8  # in one SUBSCRIBE; more than one cloud broker takes no more
_FAREWELL_S = 1.0  # seconds
_SHORT_PATIENCE_S = 2.0  # for the first answer, on a network that connects at once


class Connection:
    """One connection, from dialling to its end.

    Attributes:
        ended: fails with `Ended` when the connection does.
        window: messages that may be in flight.
        on_skipped: called with topic and size of a message that was too large to take.
    """

    def __init__(
        self,
        settings: LinkSettings,
        will: Will | None,
        address: BrokerAddress,
        protocol: Protocol,
        receive: Receive,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.window = settings.window
        self.on_skipped: Callable[[str, int], None] = _ignore
        self._patience_s = settings.connect_timeout_s
        self._accepted: asyncio.Future[None] = self._loop.create_future()
        self._settings = settings
        self._will = will
        self._address = address
        self._receive = receive
        self._max_packet = 256 << 20  # bytes; the broker may ask for less
        self._may_retain = True
        self._aliases = Aliases(0)
        self._skim: Skim | None = None
        self._in_flight: dict[int, tuple[OnAck, float]] = {}
        self._transport: Transport | None = None
        self._flush_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._v5 = protocol == "5"
        self._client = self._make_client()

    @property
    def room(self) -> int:
        """Messages that may still be sent before one is acknowledged."""
        return max(0, self.window - len(self._in_flight))

    @property
    def received(self) -> int:
        """Bytes that the broker has sent."""
        return self._transport.arrived if self._transport else 0

    async def open(self) -> None:
        """Connect and be accepted.

        Raises:
            Ended: not so.
        """
        began = self._loop.time()
        sock = await self._dial()
        self._transport = Transport(
            sock,
            self._loop,
            on_data=self._read,
            on_writable=self._flush,
            on_error=partial(self._end_lost, "the network"),
        )
        self._client.prepared = self._transport
        self._patience_s = self._patience(self._loop.time() - began)
        self._timer = self._loop.call_later(self._patience_s, self._never_answered)
        self._client.reconnect()  # only writes the first packet, the socket is connected
        await asyncio.wait((self._accepted, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if self.ended.done():
            self.ended.result()
        self._timer.cancel()
        self._watch()
        if self._will and self._will.online is not None:
            self.publish(self._will.topic, self._will.online, self._will.retain, None, _ignore)

    def publish(
        self,
        topic: str,
        payload: bytes,
        retain: bool,
        expires_in_s: float | None,
        on_ack: OnAck,
        *,
        qos: Literal[0, 1] = 1,
        content: tuple[str, str] = ("", ""),
    ) -> bool:
        if self.ended.done() or (qos and not self.room):
            return False
        if len(topic) + len(payload) + _PACKET_OVERHEAD > self._max_packet:
            self._loop.call_soon(on_ack, over_limit(self._max_packet, topic))
            return True
        name, properties = topic, None
        if self._v5:
            name, alias = self._aliases.shorten(topic)
            properties = publish_properties(expires_in_s, content, alias, self._aliases)
        try:
            kept = retain and self._may_retain
            info = self._client.publish(name, payload, qos, kept, properties)
        except ValueError as error:
            self._loop.call_soon(on_ack, BadRequest(f"cannot be published: {error}", where=topic))
            return True
        if qos:
            self._in_flight[info.mid] = (on_ack, self._loop.time())
        else:
            self._loop.call_soon(on_ack, None)
        return True

    def subscribe(self, filters: list[str]) -> None:
        for start in range(0, len(filters), _FILTERS):
            self._client.subscribe([(f, 1) for f in filters[start : start + _FILTERS]])

    def unsubscribe(self, topic_filter: str) -> None:
        self._client.unsubscribe(topic_filter)

    def move(self) -> None:
        """End so that another broker is tried."""
        self._end("moved", "is left for one that comes before it in the list")

    async def leave(self) -> None:
        """Publish the farewell and disconnect in order, within a moment."""
        gone = asyncio.Event()
        will = self._will
        if will and self.publish(will.topic, will.offline, will.retain, None, lambda _: gone.set()):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(gone.wait(), _FAREWELL_S)
        self._client.disconnect()
        self._flush()

    def close(self) -> None:
        """Let everything go; what is in flight is reported as unacknowledged. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()
        if not self.ended.done():
            self.ended.cancel()
        waiting, self._in_flight = self._in_flight, {}
        for on_ack, _ in waiting.values():
            on_ack(NotReachable("the connection ended before the broker acknowledged"))

    # What happens to the socket.

    async def _dial(self) -> Any:
        try:
            return await in_thread(self._prepare_and_dial)
        except AgentError as error:
            raise Ended("unreachable", error) from error
        except (OSError, ValueError) as error:  # ValueError: paho, of a bad WebSocket answer
            raise Ended("unreachable", unreachable(self._address, error)) from error

    def _prepare_and_dial(self) -> Any:
        """In a thread: read the secrets, connect the socket."""
        if self._settings.username:
            self._client.username_pw_set(self._settings.username, password(self._settings))
        if self._address.tls:
            self._client.tls_set_context(tls_context(self._settings))
        return self._client.dial()

    def _read(self) -> None:
        transport = self._transport
        while transport is not None and transport.readable and not self.ended.done():
            try:
                if self._skim is not None:
                    self._skim_on(transport, self._skim)
                else:
                    self._client.loop_read()
            except Oversized as found:
                self._begin_skim(found)
            except Exception as error:  # noqa: BLE001 - paho's parser may raise anything
                self._end("failed", f"sent something that is not MQTT ({type(error).__name__})")

    def _begin_skim(self, found: Oversized) -> None:
        """A broker of MQTT 5 was told what this device takes; one of 3.1.1 cannot know."""
        if self._v5 or found.kind != _PUBLISH:
            self._end("failed", f"sent a packet of {found.size} bytes")
        else:
            self._skim = Skim(found.flags, found.size)

    def _skim_on(self, transport: Transport, skim: Skim) -> None:
        data = transport.recv(skim.left)
        if not data:
            self._end("lost", "closed the connection")
            return
        skim.feed(data)
        if skim.left == 0:
            self._skim = None
            if skim.mid is not None:
                self._client.ack(skim.mid, 1)
            self.on_skipped(skim.topic, skim.size)

    def _write_soon(self, *_: object) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        if not self.ended.done() and self._transport is not None:
            self._client.loop_write()
            if self._transport.flush() and self._client.want_write():
                self._write_soon()  # more than the transport holds at once

    # What paho calls.

    def _on_connect(
        self, _c: object, _u: object, _f: object, reason: ReasonCode, properties: Properties | None
    ) -> None:
        if reason.is_failure:
            how: Ending = "version" if reason.value == _WRONG_VERSION else "refused"
            self._end(how, f"refused: {words(reason, properties)}")
            return
        self.window = min(self.window, getattr(properties, "ReceiveMaximum", 65_535))
        self._max_packet = getattr(properties, "MaximumPacketSize", self._max_packet)
        self._aliases = Aliases(getattr(properties, "TopicAliasMaximum", 0))
        self._may_retain = bool(getattr(properties, "RetainAvailable", 1))
        if not self._accepted.done():
            self._accepted.set_result(None)

    def _on_disconnect(
        self,
        _c: object,
        _u: object,
        flags: paho.DisconnectFlags,
        reason: ReasonCode,
        properties: Properties | None,
    ) -> None:
        if reason.value == _TAKEN_OVER:
            self._end_with("taken", taken_over(str(self._address), self._settings.client_id))
        elif flags.is_disconnect_packet_from_server:
            self._end("failed", f"closed the connection: {words(reason, properties)}")
        elif self._accepted.done():
            self._end("lost", "closed the connection")
        else:
            self._end("closed", "closed the connection before it answered")

    def _on_publish(
        self, _c: object, _u: object, mid: int, reason: ReasonCode, properties: Properties
    ) -> None:
        on_ack, _ = self._in_flight.pop(mid, (None, 0.0))
        if on_ack is None:
            return
        if reason.value < 0x80:
            on_ack(None)
        else:
            on_ack(NotReachable(f"the broker refused the message: {words(reason, properties)}"))

    def _on_subscribe(
        self, _c: object, _u: object, _m: int, reasons: list[ReasonCode], properties: object
    ) -> None:
        for reason in reasons:
            if reason.value >= 0x80:
                log.warning(
                    "%s refused a subscription: %s", self._address, words(reason, properties)
                )

    def _on_message(self, _c: object, _u: object, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._client.ack(message.mid, message.qos)
            return
        ack = partial(self._acknowledge, message.mid) if message.qos else _ignore
        self._receive(topic, bytes(message.payload), message.retain, ack)

    def _acknowledge(self, mid: int) -> None:
        if not self.ended.done():
            self._client.ack(mid, 1)

    # Time.

    def _watch(self) -> None:
        """Probe a silent connection, and give up a broker that leaves messages unacknowledged."""
        keepalive_s = self._client.keepalive or self._settings.keepalive_s  # the broker may set it
        period = min(keepalive_s / 4, self._settings.ack_timeout_s / 2)
        self._timer = self._loop.call_later(period, self._watch)
        self._client.loop_misc()
        if self._in_flight:
            _, sent = next(iter(self._in_flight.values()))
            if self._loop.time() - sent > self._settings.ack_timeout_s:
                self._end("failed", f"did not acknowledge for {self._settings.ack_timeout_s:g} s")

    def _patience(self, dialling_s: float) -> float:
        """How long to wait for the first answer.

        A broker of 3.1.1 may read a length out of the properties of version 5 and wait for bytes that
        never come; where another version can be tried, that must not take the whole time-out.
        """
        limit = self._settings.connect_timeout_s
        if self._v5 and self._settings.protocol == "auto":
            return min(limit, max(_SHORT_PATIENCE_S, 20 * dialling_s))
        return limit

    def _never_answered(self) -> None:
        self._end("silent", f"did not answer for {self._patience_s:g} s")

    # Ends.

    def _end_lost(self, who: str, error: OSError) -> None:
        self._end_with("lost", NotReachable(f"{who} failed: {error}", where=str(self._address)))

    def _end(self, how: Ending, what: str) -> None:
        self._end_with(how, NotReachable(f"the broker {what}", where=str(self._address)))

    def _end_with(self, how: Ending, error: AgentError) -> None:
        if not self.ended.done():
            self.ended.set_exception(Ended(how, error))

    def _make_client(self) -> DialledClient:
        settings = self._settings
        client = DialledClient(
            CallbackAPIVersion.VERSION2,
            client_id=settings.client_id,
            protocol=MQTTProtocolVersion.MQTTv5 if self._v5 else MQTTProtocolVersion.MQTTv311,
            clean_session=None if self._v5 else False,
            transport="websockets" if self._address.path else "tcp",
            reconnect_on_failure=False,
            manual_ack=True,
        )
        client.max_incoming = settings.max_incoming
        client.connect_timeout = settings.connect_timeout_s
        client.max_inflight_messages = 0  # no bound of its own: the window is kept here
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_socket_register_write = self._write_soon
        if self._will:
            will = self._will
            client.will_set(will.topic, will.offline, qos=1, retain=will.retain)
        if self._address.path:
            client.ws_set_options(path=self._address.path)
        client.connect_async(
            self._address.host,
            self._address.port,
            settings.keepalive_s,
            clean_start=False,
            properties=connect_properties(settings) if self._v5 else None,
        )
        return client


def _ignore(*_: object) -> None:
    """Nobody waits for it."""
