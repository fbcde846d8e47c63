"""The paths below `/v1` that language models answer."""

from contextlib import aclosing
from typing import Any

from agent.api.callers import Role
from agent.api.http.messages import Answer, Operation, Request, Route, Stream, json_response
from agent.api.openai.ahead import after
from agent.api.openai.chats import Chat, Completion, Writing
from agent.api.openai.errors import ErrorBody, problem_response
from agent.api.openai.events import events, to_the_end
from agent.api.openai.requests import ChatRequest, CompletionRequest, decoded
from agent.api.openai.writing import text_session
from agent.api.service import Service
from agent.engines.generation import GenerationRequest
from agent.errors import NotFound

MAX_REQUEST = 8 * 2**20  # bytes
ANSWER_S = 600.0  # for a whole answer that is not streamed, or a streamed one's first part, seconds


_STREAMED = ("text/event-stream",)
_MODELS = Operation("Every installed model", answer=dict[str, Any], error=ErrorBody)
_MODEL = Operation("One installed model", answer=dict[str, Any], error=ErrorBody)
_CHAT = Operation(
    "Go on with a conversation; streamed on request",
    body=ChatRequest,
    answer=dict[str, Any],
    answer_media=_STREAMED,
    error=ErrorBody,
)
_COMPLETION = Operation(
    "Go on with a text; streamed on request",
    body=CompletionRequest,
    answer=dict[str, Any],
    answer_media=_STREAMED,
    error=ErrorBody,
)


class OpenAi:
    """Models, chats and completions."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """The paths."""
        return [
            _looking("/v1/models", self.models, _MODELS),
            _looking("/v1/models/{model}", self.model, _MODEL),
            writing_route("/v1/chat/completions", self.chat, _CHAT),
            writing_route("/v1/completions", self.complete, _COMPLETION),
        ]

    async def models(self, _: Request) -> Answer:
        names = sorted({m["name"] for m in await self._service.repository.index()})
        return json_response({"object": "list", "data": [_model(name) for name in names]})

    async def model(self, request: Request) -> Answer:
        name = request.arguments["model"]
        if all(m["name"] != name for m in await self._service.repository.index()):
            raise NotFound("is not installed", where=name)
        return json_response(_model(name))

    async def chat(self, request: Request) -> Answer:
        asked = decoded(request.body, ChatRequest)
        kind = Chat(asked.model, *self._service.stamp(), tools=asked.calls_tools())
        return await self._answer(kind, asked, asked.generation())

    async def complete(self, request: Request) -> Answer:
        asked = decoded(request.body, CompletionRequest)
        kind = Completion(asked.model, *self._service.stamp())
        return await self._answer(kind, asked, asked.generation())

    async def _answer(
        self, kind: Writing, asked: ChatRequest | CompletionRequest, generation: GenerationRequest
    ) -> Answer:
        model = await self._service.inference.loaded(asked.model, None)
        text_session(model)
        parts = self._service.writers.write(model, generation)
        if not asked.stream:
            async with aclosing(parts):
                return json_response(kind.whole([part async for part in parts]))
        begun = await after(parts)
        return Stream(to_the_end(events(kind, begun, include_usage=asked.include_usage)))


def writing_route(pattern: str, handler: Any, operation: Operation) -> Route:
    """A route that a model answers."""
    bounds = (MAX_REQUEST, ANSWER_S)
    return Route(
        *("POST", pattern, handler, Role.APP, *bounds, problem_response, operation),
        needs_listener=True,
    )


def _looking(pattern: str, handler: Any, operation: Operation) -> Route:
    return Route("GET", pattern, handler, Role.VIEWER, 0, None, problem_response, operation)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "edge-agent"}
