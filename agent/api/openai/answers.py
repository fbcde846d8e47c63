"""Answers as OpenAI's clients read them: whole, and in pieces. Pure."""

from collections.abc import Sequence
from typing import Any, Literal

from agent.engines.generation import Chosen, Finish
from agent.tasks.generation.tools import Call

Kind = Literal["chat.completion", "text_completion"]
DONE = b"data: [DONE]\n\n"


class Head:
    """What every part of an answer repeats.

    Args:
        kind: which interface.
        id: of the answer.
        created: wall time, whole seconds.
        model: its name as the client gave it.
    """

    def __init__(self, kind: Kind, id: str, created: int, model: str) -> None:  # noqa: A002
        self._kind = kind
        self._fields = {"id": id, "created": created, "model": model}

    def whole(self, choice: dict[str, Any], finish: Finish) -> dict[str, Any]:
        """All of it."""
        return {
            "object": self._kind,
            **self._fields,
            "choices": [{"index": 0, **choice}],
            "usage": usage(finish),
        }

    def chunk(self, choice: dict[str, Any] | None, finish: Finish | None = None) -> dict[str, Any]:
        """A part of it; without a choice, the count of tokens at the end."""
        kind = "chat.completion.chunk" if self._kind == "chat.completion" else self._kind
        found: dict[str, Any] = {
            "object": kind,
            **self._fields,
            "choices": [] if choice is None else [{"index": 0, **choice}],
        }
        if finish is not None:
            found["usage"] = usage(finish)
        return found


def usage(finish: Finish) -> dict[str, Any]:
    """The count of tokens."""
    return {
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.completion_tokens,
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finish.cached_tokens},
    }


def chat_choice(answer: str | Call, id: str, finish: Finish, logs: Sequence[Chosen]) -> dict[str, Any]:  # noqa: A002, E501
    """A whole answer of a chat."""
    message: dict[str, Any] = {"role": "assistant", "content": answer}
    reason: str = finish.reason
    if isinstance(answer, Call):
        message = {"role": "assistant", "content": None, "tool_calls": [tool_call(answer, id)]}
        reason = "tool_calls"
    return {"message": message, "finish_reason": reason, "logprobs": chat_logprobs(logs)}


def tool_call(call: Call, id: str) -> dict[str, Any]:  # noqa: A002
    """A call of a function."""
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": id, "type": "function", "function": function}


def chat_delta(delta: dict[str, Any], logs: Sequence[Chosen] = ()) -> dict[str, Any]:
    """A part of an answer of a chat."""
    return {"delta": delta, "finish_reason": None, "logprobs": chat_logprobs(logs)}


def chat_end(reason: str) -> dict[str, Any]:
    """The end of a streamed answer of a chat."""
    return {"delta": {}, "finish_reason": reason, "logprobs": None}


def chat_logprobs(logs: Sequence[Chosen]) -> dict[str, Any] | None:
    """Probabilities of tokens, in the form of chats."""
    if not logs:
        return None
    return {"content": [{**_token(c.token, c.logprob), "top_logprobs": _top(c)} for c in logs]}


def text_choice(
    text: str, reason: str | None, logs: Sequence[Chosen], offset: int = 0
) -> dict[str, Any]:
    """A completion, or a part of one."""
    return {"text": text, "finish_reason": reason, "logprobs": text_logprobs(logs, offset)}


def text_logprobs(logs: Sequence[Chosen], offset: int) -> dict[str, Any] | None:
    """Probabilities of tokens, in the form of completions."""
    if not logs:
        return None
    lengths = [len(c.token) for c in logs]
    return {
        "tokens": [c.token for c in logs],
        "token_logprobs": [c.logprob for c in logs],
        "top_logprobs": [{likely.token: likely.logprob for likely in c.top} for c in logs],
        "text_offset": [offset + sum(lengths[:n]) for n in range(len(logs))],
    }


def _token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}


def _top(chosen: Chosen) -> list[dict[str, Any]]:
    return [_token(likely.token, likely.logprob) for likely in chosen.top]
