"""`/v1/audio`: recordings to text."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from agent.api.callers import Role
from agent.api.http.messages import (
    Answer,
    Operation,
    Request,
    Route,
    Stream,
    json_response,
    text_response,
)
from agent.api.openai import forms
from agent.api.openai.ahead import after
from agent.api.openai.errors import ErrorBody, problem_response
from agent.api.openai.events import DONE, event, to_the_end
from agent.api.openai.hearing import speech_session
from agent.api.openai.transcripts import Asked, Transcript, asked
from agent.api.service import Service
from agent.engines.audio import MAX_FILE
from agent.engines.speech import Passage

MAX_REQUEST = MAX_FILE + 2**20  # bytes: the recording, and the form around it
ANSWER_S = 600.0  # for a whole transcript, or a streamed one's first passage, seconds

_TEXTS = {
    "text": b"text/plain; charset=utf-8",
    "srt": b"application/x-subrip; charset=utf-8",
    "vtt": b"text/vtt; charset=utf-8",
}


class Speech:
    """Transcriptions and translations."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            _route("/v1/audio/transcriptions", self.transcribe, "What is said in a recording"),
            _route("/v1/audio/translations", self.translate, "The same, in English"),
        ]

    async def transcribe(self, request: Request) -> Answer:
        return await self._answer(request, translate=False)

    async def translate(self, request: Request) -> Answer:
        return await self._answer(request, translate=True)

    async def _answer(self, request: Request, *, translate: bool) -> Answer:
        content_type = request.headers.get(b"content-type", b"").decode("latin-1")
        wanted = asked(forms.read(request.body, content_type), translate=translate)
        model = await self._service.inference.loaded(wanted.model, None)
        speech_session(model)
        passages = self._service.listeners.hear(model, wanted.recording, wanted.request)
        if wanted.stream:
            return Stream(to_the_end(_events(await after(passages))))
        transcript = Transcript()
        async with aclosing(passages):
            async for passage in passages:
                transcript.add(passage)
        return _whole(transcript, wanted)


def _whole(transcript: Transcript, wanted: Asked) -> Answer:
    told = transcript.told(wanted)
    if isinstance(told, str):
        return text_response(told.encode(), _TEXTS[wanted.format])
    return json_response(told)


async def _events(passages: AsyncGenerator[Passage, None]) -> AsyncGenerator[bytes, None]:
    transcript = Transcript()
    async with aclosing(passages):
        async for passage in passages:
            for told in transcript.events(passage):
                yield event(told)
    transcript.ended()
    yield DONE


def _route(pattern: str, handler: Any, summary: str) -> Route:
    operation = Operation(
        summary,
        answer=dict[str, Any],
        body_media=(forms.MEDIA,),
        answer_media=("text/plain", "application/x-subrip", "text/vtt", "text/event-stream"),
        error=ErrorBody,
    )
    bounds = (MAX_REQUEST, ANSWER_S)
    return Route(
        *("POST", pattern, handler, Role.APP, *bounds, problem_response, operation),
        needs_listener=True,
    )
