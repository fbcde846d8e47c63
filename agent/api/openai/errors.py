"""Errors as OpenAI's clients read them."""

from typing import TypedDict

from agent.api.http.errors import Problem, Rejection, retry_after, status_of
from agent.api.http.messages import JSON, Response, json_body
from agent.errors import AgentError, ContextOverflow, NotFound

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "server_error",
}

#: Codes that clients know; every other error keeps its own.
_CODES = {ContextOverflow.code: "context_length_exceeded", NotFound.code: "model_not_found"}


class ErrorFields(TypedDict):
    """What is wrong, in OpenAI's words."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(TypedDict):
    """An error as OpenAI's clients read it."""

    error: ErrorFields


def problem_response(problem: Problem) -> Response:
    """A whole response."""
    if isinstance(problem, Rejection):
        return _response(problem.error, problem.status, problem.headers)
    return _response(problem, status_of(problem), retry_after(problem))


def body(error: AgentError, status: int) -> ErrorBody:
    """The error's body; also an event in a stream that has begun."""
    described: ErrorFields = {
        "message": str(error),
        "type": _TYPES.get(status, "invalid_request_error"),
        "param": error.where or None,
        "code": _CODES.get(error.code, error.code),
    }
    return {"error": described}


def _response(error: AgentError, status: int, headers: bytes) -> Response:
    return Response([json_body(body(error, status))], JSON, status, headers)
