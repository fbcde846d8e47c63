"""Answers as OpenAI's clients read them: whole, and in pieces. Pure."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agent.engines.generation import Chosen, Finish, Likely, Part, Piece
from agent.errors import BadPayload, EngineFailed
from agent.tasks.generation.tools import Call, parsed


class Writing(ABC):
    """An answer that is being made of its parts.

    Args:
        model: its name as the client gave it.
        now: wall time, seconds.
        id: of the answer.

    Attributes:
        finish: how it ended; None while it goes on.
    """

    whole_object: str
    chunk_object: str

    def __init__(self, model: str, now: float, id: str) -> None:  # noqa: A002
        self.finish: Finish | None = None
        self._fields = {"id": id, "created": int(now), "model": model}

    @abstractmethod
    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        """What is to be sent of a part, when the answer is streamed."""

    @abstractmethod
    def choice(self, text: str, finish: Finish, logs: Sequence[Chosen]) -> dict[str, Any]:
        """All of the answer."""

    def whole(self, parts: Iterable[Part]) -> dict[str, Any]:
        """The answer of all its parts. Raises EngineFailed: there is no end among them."""
        text: list[str] = []
        logs: list[Chosen] = []
        for part in parts:
            if isinstance(part, Finish):
                self.finish = part
            else:
                text.append(part.text)
                logs += part.tokens
        if self.finish is None:
            raise EngineFailed("the model stopped in the middle of its answer")
        choice = {"index": 0, **self.choice("".join(text), self.finish, logs)}
        return {
            "object": self.whole_object,
            **self._fields,
            "choices": [choice],
            "usage": _usage(self.finish),
        }

    def usage(self) -> dict[str, Any]:
        """The last chunk, if it is asked for: how many tokens it were."""
        assert self.finish is not None
        found = {"object": self.chunk_object, **self._fields, "choices": []}
        return {**found, "usage": _usage(self.finish)}

    def _chunk(self, choice: dict[str, Any]) -> dict[str, Any]:
        return {
            "object": self.chunk_object,
            **self._fields,
            "choices": [{"index": 0, **choice}],
        }


class Chat(Writing):
    """The answer to a conversation; with tools, it is read when it is whole."""

    whole_object, chunk_object = "chat.completion", "chat.completion.chunk"

    def __init__(self, model: str, now: float, id: str, *, tools: bool) -> None:  # noqa: A002
        super().__init__(model, now, f"chatcmpl-{id}")
        self._call_id = f"call_{id}"
        self._tools = tools
        self._begun = False
        self._held: list[Piece] = []

    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        if not self._begun:
            self._begun = True
            yield self._delta({"role": "assistant", "content": ""})
        if isinstance(part, Finish):
            self.finish = part
            yield from self._end(part)
        elif self._tools:
            self._held.append(part)
        else:
            yield self._delta({"content": part.text}, part.tokens)

    def choice(self, text: str, finish: Finish, logs: Sequence[Chosen]) -> dict[str, Any]:
        answer = self._read(text)
        if isinstance(answer, Call):
            message = {"role": "assistant", "content": None, "tool_calls": [self._call(answer)]}
            return {"message": message, "finish_reason": "tool_calls", "logprobs": None}
        message = {"role": "assistant", "content": answer}
        return {"message": message, "finish_reason": finish.reason, "logprobs": _logs(logs)}

    def _end(self, finish: Finish) -> Iterator[dict[str, Any]]:
        reason: str = finish.reason
        if self._tools:
            answer = self._read("".join(piece.text for piece in self._held))
            if isinstance(answer, Call):
                reason = "tool_calls"
                yield self._delta({"tool_calls": [{"index": 0, **self._call(answer)}]})
            else:
                yield self._delta({"content": answer})
        yield self._chunk({"delta": {}, "finish_reason": reason, "logprobs": None})

    def _read(self, text: str) -> Call | str:
        if not self._tools:
            return text
        try:
            return parsed(text)
        except BadPayload:  # cut short: the reason is "length", and this is what there is
            return text

    def _call(self, call: Call) -> dict[str, Any]:
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": self._call_id, "type": "function", "function": function}

    def _delta(self, delta: dict[str, Any], logs: Sequence[Chosen] = ()) -> dict[str, Any]:
        return self._chunk({"delta": delta, "finish_reason": None, "logprobs": _logs(logs)})


class Completion(Writing):
    """A text that is continued."""

    whole_object = chunk_object = "text_completion"

    def __init__(self, model: str, now: float, id: str) -> None:  # noqa: A002
        super().__init__(model, now, f"cmpl-{id}")
        self._offset = 0

    def chunks(self, part: Part) -> Iterator[dict[str, Any]]:
        if isinstance(part, Finish):
            self.finish = part
            yield self._chunk({"text": "", "finish_reason": part.reason, "logprobs": None})
            return
        logs = _text_logs(part.tokens, self._offset)
        self._offset += len(part.text)
        yield self._chunk({"text": part.text, "finish_reason": None, "logprobs": logs})

    def choice(self, text: str, finish: Finish, logs: Sequence[Chosen]) -> dict[str, Any]:
        return {"text": text, "finish_reason": finish.reason, "logprobs": _text_logs(logs, 0)}


def _usage(finish: Finish) -> dict[str, Any]:
    return {
        "prompt_tokens": finish.prompt_tokens,
        "completion_tokens": finish.completion_tokens,
        "total_tokens": finish.prompt_tokens + finish.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finish.cached_tokens},
    }


def _logs(logs: Sequence[Chosen]) -> dict[str, Any] | None:
    if not logs:
        return None
    return {"content": [{**_token(c), "top_logprobs": [*map(_token, c.top)]} for c in logs]}


def _text_logs(logs: Sequence[Chosen], offset: int) -> dict[str, Any] | None:
    if not logs:
        return None
    lengths = [len(c.token) for c in logs]
    return {
        "tokens": [c.token for c in logs],
        "token_logprobs": [c.logprob for c in logs],
        "top_logprobs": [{likely.token: likely.logprob for likely in c.top} for c in logs],
        "text_offset": [offset + sum(lengths[:n]) for n in range(len(logs))],
    }


def _token(found: Chosen | Likely) -> dict[str, Any]:
    raw = found.token.encode() if found.raw is None else found.raw
    return {"token": found.token, "logprob": found.logprob, "bytes": list(raw)}
