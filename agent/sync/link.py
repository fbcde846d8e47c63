"""The device's link to the cloud: at most one connection, and it comes back by itself."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

from agent.clock import Clock
from agent.errors import AgentError, BadRequest
from agent.sync.attempts import CONTESTED, Attempts, Protocol
from agent.sync.connection import Connection, OnAck
from agent.sync.dial import answers
from agent.sync.reasons import Ended, fault, hangs_up
from agent.sync.settings import LinkSettings, Will
from agent.sync.topics import matches

if TYPE_CHECKING:
    from agent.telemetry.metrics import Metrics

__all__ = ["Handler", "Incoming", "Link", "LinkSettings", "State", "Will"]

State = Literal["stopped", "connecting", "connected", "waiting"]
Handler = Callable[["Incoming"], None]

log = logging.getLogger(__name__)

_MAX_ROUTES = 4096  # topics whose handlers are remembered


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker.

    Attributes:
        topic: where it was published.
        payload: as it was sent.
        retained: whether it stood there before this device subscribed.
        ack: tells the broker that it need not send it again; call it once the message is safe.
    """

    topic: str
    payload: bytes
    retained: bool
    ack: Callable[[], None]


class Link:
    """A connection that comes back by itself.

    Attributes:
        settings: as given.
        state: stopped, connecting, connected or waiting (for the next attempt).
        reason: why there is no connection; None while there is one, or before the first attempt.
        protocol: version of MQTT in use; empty while not connected.
        broker: address in use or tried last.
    """

    def __init__(
        self,
        settings: LinkSettings,
        *,
        clock: Clock,
        metrics: "Metrics | None" = None,
        will: Will | Callable[[], Will] | None = None,
        randomness: Callable[[], float] = random.random,
    ) -> None:
        self.state: State = "stopped"
        self.reason: AgentError | None = None
        self.protocol: Protocol | Literal[""] = ""
        self.broker = ""
        self.settings = settings
        self._clock = clock
        self._will = will
        self._attempts = Attempts(
            len(settings.brokers),
            settings.backoff_min_s,
            settings.backoff_max_s,
            randomness,
            cast("Protocol", settings.protocol),
        )
        self._listeners: list[Callable[[], None]] = []
        self._handlers: dict[str, Handler] = {}
        self._routes: dict[str, list[Handler]] = {}
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._connects = metrics and metrics.counter(
            "edge_agent_mqtt_connects_total",
            "Connections to a broker that were accepted",
            ("broker",),
        )
        self._failures = metrics and metrics.counter(
            "edge_agent_mqtt_failures_total",
            "Connections to a broker that ended or never began",
            ("broker", "reason"),
        )

        self._skipped = metrics and metrics.counter(
            "edge_agent_mqtt_skipped_total", "Messages passed over because they were too large"
        )

    @property
    def connected(self) -> bool:
        """Whether a broker has accepted this client and still answers."""
        return self.state == "connected"

    @property
    def window(self) -> int:
        """Messages that may be in flight at once: the setting, or less if the broker asks for less."""
        return self._connection.window if self._connection else self.settings.window

    @property
    def room(self) -> int:
        """Messages that `publish` would take now."""
        return self._connection.room if self._connection and self.connected else 0

    @property
    def received(self) -> int:
        """Bytes that have come by the present connection; they tell a slow broker from a silent one."""
        return self._connection.received if self._connection else 0

    def on_state(self, listener: Callable[[], None]) -> None:
        """Call `listener` in the event loop after each change of `state`."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="mqtt-link")

    async def close(self) -> None:
        """Say goodbye and disconnect; what is in flight is reported as unacknowledged. Idempotent."""
        if self._connection is not None and self.connected:
            await self._connection.leave()
        self._set_state("stopped", None)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = self._connection = None
        self.protocol = ""

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expires_in_s: float | None = None,
        qos: Literal[0, 1] = 1,
        content: tuple[str, str] = ("", ""),
        on_ack: OnAck,
    ) -> bool:
        """Send, at QoS 1 unless said otherwise.

        Args:
            topic: without wildcards.
            payload: any bytes.
            retain: whether the broker keeps it for later subscribers.
            expires_in_s: after which the broker may forget it (MQTT 5), seconds.
            content: media type and encoding of the payload, told to receivers (MQTT 5).
            qos: 0 goes whatever is in flight, and is acknowledged by nobody.
            on_ack: called once, in the event loop, with None when the broker has it (at QoS 0: when
                it is written), or with why not.

        Returns:
            False when nothing was sent and `on_ack` will not be called: there is no connection, or
            as many messages are in flight as may be.
        """
        if self._connection is None or not self.connected:
            return False
        return self._connection.publish(
            topic, payload, retain, expires_in_s, on_ack, qos=qos, content=content
        )

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        """Have messages that match the filter, now and after every reconnect, at QoS 1.

        Raises:
            BadRequest: there is a subscription to this filter already.
        """
        if topic_filter in self._handlers:
            raise BadRequest("there is a subscription already", where=topic_filter)
        self._handlers[topic_filter] = handler
        self._routes.clear()
        if self._connection is not None and self.connected:
            self._connection.subscribe([topic_filter])

    def unsubscribe(self, topic_filter: str) -> None:
        """Have no more of it; messages on their way are acknowledged unseen. Idempotent."""
        if self._handlers.pop(topic_filter, None) is None:
            return
        self._routes.clear()
        if self._connection is not None and self.connected:
            self._connection.unsubscribe(topic_filter)

    async def _run(self) -> None:
        while True:
            self._set_state("connecting", self.reason)
            pause = await self._connect_and_live()
            log.info("no connection to %s, next try in %.1f s: %s", self.broker, pause, self.reason)
            await self._clock.sleep(pause)

    async def _connect_and_live(self) -> float:
        """One connection from the first packet to its end; the pause to follow, seconds."""
        attempt = self._attempts.next()
        address = self.settings.addresses[attempt.broker]
        self.broker = str(address)
        will = self._will() if callable(self._will) else self._will
        connection = Connection(self.settings, will, address, attempt.protocol, self._receive)
        connection.on_skipped = self._note_skipped
        self._connection = connection
        began = self._clock.monotonic()
        homing: asyncio.Task[None] | None = None
        try:
            await connection.open()
            self._established(attempt.protocol, connection)
            if attempt.broker and self.settings.return_after_s:
                homing = asyncio.create_task(self._return(connection, attempt.broker))
            await connection.ended
            raise RuntimeError("a connection ends with a reason")
        except Ended as end:
            return self._note(end, self._clock.monotonic() - began)
        except Exception as error:
            # A fault of ours must not silence the device for ever.
            log.exception("the connection to %s failed", self.broker)
            return self._note(Ended("failed", fault(error)), self._clock.monotonic() - began)
        finally:
            if homing is not None:
                homing.cancel()
            connection.close()

    async def _return(self, connection: Connection, broker: int) -> None:
        """Leave a broker that stood in as soon as one before it in the list answers again."""
        while True:
            await self._clock.sleep(self.settings.return_after_s)
            for number, address in enumerate(self.settings.addresses[:broker]):
                if await answers(address, self.settings.connect_timeout_s):
                    log.info("%s answers again: leaving %s for it", address, self.broker)
                    self._attempts.prefer(number)
                    connection.move()
                    return

    def _note_skipped(self, topic: str, size: int) -> None:
        log.warning("a message of %d bytes to %s is over max_incoming: passed over", size, topic)
        if self._skipped:
            self._skipped.inc()

    def _note(self, end: Ended, lived_s: float) -> float:
        """Take note of an end, before those hear of it who have something in flight."""
        self._connection = None
        self.protocol = ""
        if self._failures:
            self._failures.inc(1, self.broker, end.how)
        pause = self._attempts.ended(end.how, lived_s)
        contested = end.how == "lost" and self._attempts.contested >= CONTESTED
        reason = hangs_up(self.broker, self.settings.client_id) if contested else end.error
        self._set_state("waiting", reason)
        return pause

    def _established(self, protocol: Protocol, connection: Connection) -> None:
        self._attempts.connected()
        self.protocol = protocol
        if self._connects:
            self._connects.inc(1, self.broker)
        if self._handlers:
            connection.subscribe(list(self._handlers))
        self._set_state("connected", None)
        log.info("connected to %s with MQTT %s", self.broker, protocol)

    def _set_state(self, state: State, reason: AgentError | None) -> None:
        self.reason = reason
        if state != self.state:
            self.state = state
            for listener in self._listeners:
                listener()

    def _receive(self, topic: str, payload: bytes, retained: bool, ack: Callable[[], None]) -> None:
        handlers = self._route(topic)
        incoming = Incoming(topic, payload, retained, _after(len(handlers), ack))
        if not handlers:
            ack()  # left over from a session that knew more filters
        for handler in handlers:
            try:
                handler(incoming)
            except Exception:
                # The message is not the sender's fault; it must not come back for ever.
                log.exception("a handler of %s failed", topic)
                incoming.ack()

    def _route(self, topic: str) -> list[Handler]:
        """Who wants a topic; remembered, since sensors publish on few topics often."""
        handlers = self._routes.get(topic)
        if handlers is None:
            handlers = [h for wanted, h in self._handlers.items() if matches(wanted, topic)]
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            self._routes[topic] = handlers
        return handlers


def _after(calls: int, action: Callable[[], object]) -> Callable[[], None]:
    """What runs `action` when it was called as often as said."""
    left = calls

    def call() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            action()

    return call
