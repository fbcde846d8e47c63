"""Escalations as cases: asked once, answered once, kept as feedback.

Functions on a connection, so that a case, the message that carries it and the row of the audit log
stand in one transaction.
"""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from agent.errors import BadRequest, TooMany
from agent.store.connection import touch

State = Literal["open", "answered", "closed"]

TABLE = "escalations"  # the name that listeners of commits see
MAX_CASES = 10_000  # kept; the oldest that are settled make room
MAX_OF_ONE = 1000  # open cases of one user, so that nobody takes all places
MAX_FEEDBACK = 100_000  # answers kept

_COLUMNS = (
    "id, owner, request, subject, model, version, digest, state, created, deadline, body, answer, "
    "source, answered"
)


@dataclass(frozen=True, slots=True)
class Case:
    """A question that went to a person or a larger model.

    Attributes:
        id: the last level of its topic.
        owner: user that asked; None for the agent itself.
        request: digest of what was asked.
        subject: the warning it is about; empty for none.
        model, version: whose answer is in doubt; empty where there is none.
        digest: of the input, SHA-256 in hexadecimal; empty where there is none.
        created: wall time, seconds since the epoch.
        deadline: wall time until which an answer is of use, seconds since the epoch.
        body: JSON as it was sent.
        state: open, answered, or closed because its warning ended.
        answer: JSON; None until there is one.
        source: who answered.
        answered: wall time of the answer.
    """

    id: str
    owner: int | None
    request: str
    subject: str
    model: str
    version: str
    digest: str
    created: float
    deadline: float
    body: bytes
    state: State = "open"
    answer: bytes | None = None
    source: str = ""
    answered: float | None = None


def open_case(connection: sqlite3.Connection, case: Case) -> Case | None:
    """Add a case within the caller's transaction.

    Returns:
        The case that stands there already under this id; None when this one was added.

    Raises:
        BadRequest: another request was made under this id.
        TooMany: as many cases are open as may be, of this user or of all.
    """
    known = read(connection, case.id)
    if known is not None:
        if (known.owner, known.request) != (case.owner, case.request):
            raise BadRequest(
                "another request was made under this id", where="id", hint="Choose a new id"
            )
        return known
    _refuse_greed(connection, case.owner)
    _make_room(connection, case.created)
    values = (
        *(case.id, case.owner, case.request, case.subject, case.model, case.version, case.digest),
        *(case.state, case.created, case.deadline, case.body),
    )
    connection.execute(
        "INSERT INTO escalations (id, owner, request, subject, model, version, digest, state, created, "
        "deadline, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )
    touch(connection, TABLE)
    return None


def answer(
    connection: sqlite3.Connection, id_: str, answer_: bytes, source: str, now: float
) -> Case | None:
    """Settle a case and keep the answer as feedback.

    Returns:
        The case as it stands afterwards; None when there is none of this id, or it was answered
        before: the first answer counts.
    """
    done = connection.execute(
        "UPDATE escalations SET state = 'answered', answer = ?, source = ?, answered = ? "
        "WHERE id = ? AND state <> 'answered'",
        (answer_, source, now, id_),
    )
    if done.rowcount == 0:
        return None
    connection.execute(
        "INSERT OR IGNORE INTO feedback (escalation, model, version, digest, answer, source, time) "
        "SELECT id, model, version, digest, answer, source, answered FROM escalations WHERE id = ?",
        (id_,),
    )
    connection.execute(
        "DELETE FROM feedback WHERE seq <= (SELECT max(seq) FROM feedback) - ?", (MAX_FEEDBACK,)
    )
    touch(connection, TABLE)
    return read(connection, id_)


def close_subject(connection: sqlite3.Connection, subject: str) -> None:
    """Close the open cases about a warning that has ended; an answer may still come."""
    connection.execute(
        "UPDATE escalations SET state = 'closed' WHERE subject = ? AND state = 'open'", (subject,)
    )


def read(connection: sqlite3.Connection, id_: str) -> Case | None:
    """The case of this id."""
    query = f"SELECT {_COLUMNS} FROM escalations WHERE id = ?"  # noqa: S608 - our own words
    row = connection.execute(query, (id_,)).fetchone()
    return None if row is None else _case(row)


def newest(connection: sqlite3.Connection, limit: int, state: State | None = None) -> list[Case]:
    """The newest cases first, of one state or of all."""
    chosen = "WHERE state = :state" if state else ""
    query = f"SELECT {_COLUMNS} FROM escalations {chosen} ORDER BY seq DESC LIMIT :limit"  # noqa: S608
    return [_case(row) for row in connection.execute(query, {"state": state, "limit": limit})]


def _case(row: tuple[object, ...]) -> Case:
    id_, owner, request, subject, model, version, digest, state, created, deadline, body, *rest = (
        row
    )
    columns = (id_, owner, request, subject, model, version, digest, created, deadline, body, state)
    return Case(*columns, *rest)  # type: ignore[arg-type]


def _refuse_greed(connection: sqlite3.Connection, owner: int | None) -> None:
    (count,) = connection.execute(
        "SELECT count(*) FROM escalations WHERE state = 'open' AND owner = ?", (owner,)
    ).fetchone()
    if count >= MAX_OF_ONE:
        raise TooMany(
            f"{MAX_OF_ONE} escalations of this user are open already",
            hint="Answer some: edge-fleet escalations answer",
            retry_after_s=60.0,
        )


def _make_room(connection: sqlite3.Connection, now: float) -> None:
    """Let the oldest case go that is settled, or whose time is over, when there are as many as may be."""
    (count,) = connection.execute("SELECT count(*) FROM escalations").fetchone()
    if count < MAX_CASES:
        return
    gone = connection.execute(
        "DELETE FROM escalations WHERE seq = (SELECT min(seq) FROM escalations "
        "WHERE state <> 'open' OR deadline < ?)",
        (now,),
    )
    if gone.rowcount == 0:
        raise TooMany(
            f"{MAX_CASES} escalations are open already",
            hint="Answer some: edge-fleet escalations answer",
            retry_after_s=60.0,
        )
