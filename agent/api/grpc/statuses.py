"""Errors as gRPC's status codes, in one table."""

from agent.errors import (
    AgentError,
    BadRequest,
    Forbidden,
    LimitExceeded,
    NotFound,
    Refused,
    TooSlow,
    Unavailable,
)

OK, CANCELLED, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND = 0, 1, 3, 4, 5
PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION = 7, 8, 9
UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 12, 13, 14

#: The first class that an error belongs to says its status.
STATUSES: tuple[tuple[type[AgentError], int], ...] = (
    (NotFound, NOT_FOUND),
    (BadRequest, INVALID_ARGUMENT),
    (TooSlow, DEADLINE_EXCEEDED),
    (LimitExceeded, RESOURCE_EXHAUSTED),
    (Forbidden, PERMISSION_DENIED),
    (Refused, FAILED_PRECONDITION),
    (Unavailable, UNAVAILABLE),
    (AgentError, INTERNAL),
)


class Unimplemented(Exception):
    """A method, or a way of using one, that this agent does not offer."""


def status_of(error: AgentError) -> int:
    """The status of an error."""
    return next(status for cls, status in STATUSES if isinstance(error, cls))


def told(error: AgentError) -> str:
    """An error's text; the stable code is in it, since gRPC has only numbers."""
    return f"{error} [{error.code}]"
