"""What a scored batch leaves on the disk, in one transaction."""

from contextlib import suppress
from sqlite3 import Connection

from agent.errors import TooMany
from agent.pipelines.stream import Work
from agent.store import cases, outbox, streams

#: States of streams, among those of other rooms, begin so.
KEY = "anomaly/"


def write_work(connection: Connection, name: str, work: Work) -> None:
    """Write a stream's state, what it sends, and the cases that begin or end with it.

    Raises:
        TooLarge, TooMany: as the tables say; the caller's transaction must not be committed.
    """
    streams.save(connection, KEY + name, work.state)
    if work.messages:
        outbox.insert(connection, work.messages)
    for case in work.cases:
        with suppress(TooMany):  # the message goes all the same
            cases.open_case(connection, case)
    for alarm in work.cleared:
        cases.close_subject(connection, alarm)
