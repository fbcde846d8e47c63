"""Errors as statuses, in one table."""

import math
from typing import TypeAlias

from agent.api.http.messages import JSON, Response, json_body
from agent.errors import (
    AgentError,
    BadRequest,
    LimitExceeded,
    NotFound,
    OverMemory,
    Refused,
    TooLarge,
    TooMany,
    TooSlow,
    Unavailable,
)

#: The first class that an error belongs to says its status.
STATUSES: tuple[tuple[type[AgentError], int], ...] = (
    (NotFound, 404),
    (BadRequest, 400),
    (TooLarge, 413),
    (TooMany, 429),
    (TooSlow, 504),
    (OverMemory, 507),
    (LimitExceeded, 413),
    (Refused, 403),
    (Unavailable, 503),
    (AgentError, 500),
)


class Rejection(Exception):
    """A request that HTTP itself does not allow, with the status that HTTP has for it."""

    def __init__(self, status: int, error: AgentError, headers: bytes = b"") -> None:
        super().__init__(str(error))
        self.status = status
        self.error = error
        self.headers = headers


Problem: TypeAlias = AgentError | Rejection


def status_of(error: AgentError) -> int:
    """The HTTP status of an error."""
    return next(status for cls, status in STATUSES if isinstance(error, cls))


def error_response(problem: Problem) -> Response:
    """The body has the error's fields, and all of them as one text in ``error``."""
    if isinstance(problem, Rejection):
        return _response(problem.error, problem.status, problem.headers)
    return _response(problem, status_of(problem), retry_after(problem))


def retry_after(error: AgentError) -> bytes:
    """The header line that says when to come back, for errors that know."""
    if not isinstance(error, Unavailable | TooMany):
        return b""
    return b"Retry-After: %d\r\n" % max(1, math.ceil(error.retry_after_s))


def _response(error: AgentError, status: int, headers: bytes) -> Response:
    body = {"error": str(error), **error.to_dict()}
    return Response([json_body(body)], JSON, status, headers)
