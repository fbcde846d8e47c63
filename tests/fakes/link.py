"""A link without a network, through the same face as `agent.sync.link.Link`."""

from collections.abc import Callable

from agent.errors import AgentError, NotReachable
from agent.sync.link import Handler, Incoming, OnAck
from agent.sync.settings import LinkSettings
from agent.sync.topics import matches


class FakeLink:
    """Records what is published; the test decides when the broker answers, and what.

    Attributes:
        sent: (topic, payload) in order, over all connections.
        expiries: what the broker was told of each message's lifetime, seconds.
        unanswered: the acknowledgements that are due, oldest first.
    """

    def __init__(self, window: int = 10, settings: LinkSettings | None = None) -> None:
        self.window = window
        self.settings = settings or LinkSettings()
        self.connected = False
        self.sent: list[tuple[str, bytes]] = []
        self.expiries: list[float | None] = []
        self.contents: list[tuple[str, str]] = []
        self.unanswered: list[tuple[str, bytes, OnAck]] = []
        self._listeners: list[Callable[[], None]] = []
        self._handlers: dict[str, Handler] = {}

    def on_state(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    def subscribe(self, topic_filter: str, handler: Handler) -> None:
        self._handlers[topic_filter] = handler

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expires_in_s: float | None = None,
        qos: int = 1,
        content: tuple[str, str] = ("", ""),
        on_ack: OnAck,
    ) -> bool:
        if not self.connected or (qos and not self.room):
            return False
        self.sent.append((topic, payload))
        self.expiries.append(expires_in_s)
        self.contents.append(content)
        if qos:
            self.unanswered.append((topic, payload, on_ack))
        else:
            on_ack(None)
        return True

    @property
    def room(self) -> int:
        return self.window - len(self.unanswered) if self.connected else 0

    def connect(self) -> None:
        self.connected = True
        self._tell()

    def cut(self) -> None:
        """Break the connection; nothing in flight is acknowledged."""
        self.connected = False
        self._tell()
        lost, self.unanswered = self.unanswered, []
        for _, _, on_ack in lost:
            on_ack(NotReachable("cut"))

    def answer(self, count: int = 1, error: AgentError | None = None) -> None:
        """Acknowledge or refuse the oldest messages in flight."""
        for _ in range(min(count, len(self.unanswered))):
            self.unanswered.pop(0)[2](error)

    def receive(self, topic: str, payload: bytes, ack: Callable[[], None] = lambda: None) -> None:
        """Hand a message to whoever subscribed to its topic."""
        for topic_filter, handler in self._handlers.items():
            if matches(topic_filter, topic):
                handler(Incoming(topic, payload, False, ack))

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
