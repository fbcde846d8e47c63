"""Errors as OpenAI's clients read them."""

from typing import TypedDict

from agent.api.http.errors import Problem, Rejection, retry_after, status_of
from agent.api.http.messages import JSON, Response, json_body
from agent.errors import AgentError, ContextOverflow, NotFound

_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
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
    """A whole response.

    A path that is not there is no model that is not there: what HTTP itself refuses keeps its own code,
    and no parameter is to blame.
    """
    if isinstance(problem, Rejection):
        error = problem.error
        told = _body(error, problem.status, param=None, code=error.code)
        return Response([json_body(told)], JSON, problem.status, problem.headers)
    status = status_of(problem)
    return Response([json_body(body(problem, status))], JSON, status, retry_after(problem))


def body(error: AgentError, status: int) -> ErrorBody:
    """The error's body; also an event in a stream that has begun."""
    code = _CODES.get(error.code, error.code)
    return _body(error, status, param=error.where or None, code=code)


def _body(error: AgentError, status: int, *, param: str | None, code: str) -> ErrorBody:
    usual = "server_error" if status >= 500 else "invalid_request_error"
    kind = _TYPES.get(status, usual)
    return {"error": {"message": str(error), "type": kind, "param": param, "code": code}}
