"""Which message makes a broker hang up. Pure.

A broker may end the connection instead of refusing a message: NATS does so for a topic with a dot, a
cloud broker for a topic that the device's policy forbids. Sent again after each reconnect, the message
would keep everything behind it from leaving, for ever. So after a connection that ended with messages
in flight and not one acknowledged, messages go one at a time; one that is alone on its way when the
connection ends, again and again, has its topic wait, and the rest goes on.
"""

from collections.abc import Mapping, Sequence

from agent.store.account import Queued

STRIKES = (
    3  # ends with the same message alone in flight until it is blamed; once blamed, one is enough
)
FIRST_WAIT_S = 60.0  # seconds that a blamed topic waits; doubled each time
LONGEST_WAIT_S = 3600.0
MAX_BLAMED = 256  # topics remembered; the one blamed first is forgotten first


class Suspects:
    """Watches what was in flight when connections ended.

    Attributes:
        careful: whether messages go one at a time for now.
    """

    def __init__(self, window: int) -> None:
        """Start without suspicion.

        Args:
            window: acknowledged messages after which nothing is suspected any more.
        """
        self.careful = False
        self._window = window
        self._acknowledged = 0  # on this connection
        self._suspect = -1  # its sequence number
        self._strikes = 0
        self._blamed: dict[str, tuple[Queued, int, float]] = {}  # by topic: row, times, due

    def acknowledged(self) -> None:
        """The broker took a message."""
        self._acknowledged += 1
        if self._acknowledged >= self._window:
            self.careful = False

    def ended(self, in_flight: Sequence[Queued], now: float) -> Queued | None:
        """The connection ended. `now` is monotonic, seconds.

        Args:
            in_flight: sent and unanswered, in the order of sending.
            now: of the end.

        Returns:
            The row whose topic is blamed for it from now on, if any.
        """
        taken, self._acknowledged = self._acknowledged, 0
        if not in_flight:
            return None
        if not self.careful:
            self.careful = taken == 0
            return None
        return self._strike(in_flight[0], now)

    def waiting(self, now: float) -> Mapping[str, tuple[Queued, float]]:
        """The blamed topics that are not due yet: a row of each, and when it is due."""
        return {topic: (row, due) for topic, (row, _, due) in self._blamed.items() if due > now}

    def _strike(self, row: Queued, now: float) -> Queued | None:
        self._strikes = self._strikes + 1 if row.seq == self._suspect else 1
        self._suspect = row.seq
        topic = row.message.topic
        _, times, _ = self._blamed.get(topic, (row, 0, 0.0))
        if self._strikes < STRIKES and not times:
            return None
        self._blamed.pop(topic, None)
        if len(self._blamed) >= MAX_BLAMED:
            del self._blamed[next(iter(self._blamed))]
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(times, 16))
        self._blamed[topic] = (row, times + 1, now + wait_s)
        self.careful = False
        return row
