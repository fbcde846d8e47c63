"""An answer as server-sent events."""

import logging
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from agent.api.http.errors import status_of
from agent.api.http.messages import encode_json
from agent.api.openai.chats import Writing
from agent.api.openai.errors import body
from agent.engines.generation import Part
from agent.errors import AgentError, EngineFailed

_log = logging.getLogger(__name__)

DONE = b"data: [DONE]\n\n"


async def events(
    kind: Writing, parts: AsyncGenerator[Part, None], *, include_usage: bool
) -> AsyncGenerator[bytes, None]:
    """The events of an answer that is written."""
    async with aclosing(parts):
        async for part in parts:
            for chunk in kind.chunks(part):
                yield event(chunk)
    if kind.finish is None:
        raise EngineFailed("the model stopped in the middle of its answer")
    if include_usage:
        yield event(kind.usage())
    yield DONE


async def to_the_end(events: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same events; whatever fails on the way, the last one is an error and says so."""
    async with aclosing(events):
        try:
            async for told in events:
                yield told
        except AgentError as error:
            yield event(body(error, status_of(error)))
        except Exception:  # noqa: BLE001 (a stream that ends in silence looks whole)
            _log.exception("an answer broke off")
            failure = AgentError("the agent failed; the log says why")
            yield event(body(failure, status_of(failure)))


def event(value: Mapping[str, Any]) -> bytes:
    """One event."""
    return b"data: %b\n\n" % encode_json(value)
