"""An answer as server-sent events."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from agent.api.http.errors import status_of
from agent.api.http.messages import encode_json
from agent.api.openai.chats import Writing
from agent.api.openai.errors import body
from agent.engines.generation import Part
from agent.errors import AgentError, EngineFailed

DONE = b"data: [DONE]\n\n"


async def events(
    kind: Writing, parts: AsyncGenerator[Part, None], *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events; when the model fails on the way, the last one is an error and says so."""
    async with aclosing(parts):
        try:
            ended = False
            async for part in parts:
                for chunk in kind.chunks(part):
                    yield event(chunk)
                ended = kind.finish is not None
            if not ended:
                raise EngineFailed("the model stopped in the middle of its answer")
        except AgentError as error:
            yield event(body(error, status_of(error)))
            return
        if include_usage:
            yield event(kind.usage())
        yield DONE


def event(value: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: %b\n\n" % encode_json(value)
