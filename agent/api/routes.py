"""Paths, and what answers them: thin over the service."""

from collections.abc import AsyncGenerator, Awaitable
from typing import Annotated

import msgspec

from agent.api.callers import Role
from agent.api.http.messages import (
    Answer,
    Request,
    Response,
    Route,
    Stream,
    json_response,
    text_response,
)
from agent.api.inference import Call
from agent.api.openai.routes import OpenAi
from agent.api.page import PAGE, PAGE_HEADERS
from agent.api.rates import Account
from agent.api.regions import Regions
from agent.api.repository import ModelRepository
from agent.api.served import Reply
from agent.api.service import Service
from agent.api.settings import ApiSettings
from agent.errors import BadPayload, NotReady, TooMany
from agent.pipelines.names import MAX_PAYLOAD
from agent.telemetry.events import Numbered
from agent.telemetry.exposition import CONTENT_TYPE

BINARY = b"application/octet-stream"
MAX_ASKED = 64 * 1024  # bytes of a request about models
NO_STORE = b"Cache-Control: no-store\r\n"

_encode = msgspec.json.Encoder(enc_hook=str).encode


def routes(service: Service, settings: ApiSettings) -> list[Route]:
    """Every route of the local API."""
    return [
        *OpenInference(service).routes(),
        *Repository(service.repository).routes(),
        *SharedMemory(service.regions).routes(),
        *Native(service, settings).routes(),
        *OpenAi(service).routes(),
    ]


class OpenInference:
    """The Open Inference Protocol, version 2."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Health, metadata and inference."""
        table = [
            Route("GET", "/v2", self.server, max_body=0),
            Route("GET", "/v2/health/live", self.live, max_body=0),
            Route("GET", "/v2/health/ready", self.ready, max_body=0),
        ]
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            table += [
                Route("GET", model, self.model, max_body=0),
                Route("GET", f"{model}/ready", self.model_ready, max_body=0),
                Route("POST", f"{model}/infer", self.infer, Role.APP),
            ]
        return table

    def server(self, _: Request) -> Answer:
        return json_response(self._service.server_metadata())

    def live(self, _: Request) -> Answer:
        return json_response({"live": True})

    def ready(self, _: Request) -> Answer:
        return _readiness(self._service.reasons())

    async def model(self, request: Request) -> Answer:
        name, version = _model(request)
        return json_response(await self._service.model_metadata(name, version))

    def model_ready(self, request: Request) -> Answer:
        name, version = _model(request)
        if not self._service.model_ready(name, version):
            raise NotReady("the model is not ready", where=name)
        return json_response({"name": name, "ready": True})

    def infer(self, request: Request) -> "Answer | Awaitable[Answer]":
        name, version = _model(request)
        shared = self._service.regions.of(request.caller)
        reply = self._service.inference.infer(
            Call(name, version, request.body, header_length(request), shared)
        )
        if isinstance(reply, tuple):
            return reply_response(reply)
        return self._later(reply)

    @staticmethod
    async def _later(reply: Awaitable[Reply]) -> Answer:
        return reply_response(await reply)


class Repository:
    """The protocol's extensions about models."""

    def __init__(self, repository: ModelRepository) -> None:
        self._repository = repository

    def routes(self) -> list[Route]:
        """Repository, configuration and statistics."""
        table = [
            Route("POST", "/v2/repository/index", self.index, max_body=MAX_ASKED),
            Route("GET", "/v2/models/stats", self.statistics, max_body=0),
        ]
        for verb, handler in (("load", self.load), ("unload", self.unload)):
            path = f"/v2/repository/models/{{model}}/{verb}"
            table.append(Route("POST", path, handler, Role.OPERATOR, MAX_ASKED))
        for model in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
            table += [
                Route("GET", f"{model}/config", self.configuration, max_body=0),
                Route("GET", f"{model}/stats", self.statistics, max_body=0),
            ]
        return table

    async def index(self, request: Request) -> Answer:
        ready = request.fields().get("ready", False)
        return json_response(await self._repository.index(ready=ready is True))

    async def load(self, request: Request) -> Answer:
        parameters = request.fields().get("parameters") or {}
        if not isinstance(parameters, dict):
            raise BadPayload("must be an object", where="parameters")
        await self._repository.load(request.arguments["model"], parameters)
        return json_response({})

    async def unload(self, request: Request) -> Answer:
        request.fields()  # unload_dependents: nothing here depends on a model
        await self._repository.unload(request.arguments["model"])
        return json_response({})

    async def configuration(self, request: Request) -> Answer:
        name, version = _model(request)
        return json_response(await self._repository.configuration(name, version))

    async def statistics(self, request: Request) -> Answer:
        name, version = request.arguments.get("model"), request.arguments.get("version")
        return json_response(await self._repository.statistics(name, version))


class SharedMemory:
    """The protocol's extension for tensors in system shared memory."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def routes(self) -> list[Route]:
        """Register, show and forget regions: one by name, or all of the caller's."""
        one, every = "/v2/systemsharedmemory/region/{region}", "/v2/systemsharedmemory"
        return [
            Route("POST", f"{one}/register", self.register, Role.APP, MAX_ASKED),
            *(Route("POST", f"{p}/unregister", self.unregister, Role.APP, 0) for p in (one, every)),
            *(Route("GET", f"{p}/status", self.status, Role.APP, 0) for p in (one, every)),
        ]

    def register(self, request: Request) -> Answer:
        fields = request.fields()
        try:
            asked = msgspec.convert(fields, RegionFields)
        except msgspec.ValidationError as error:
            raise BadPayload(str(error), where="body") from None
        region = request.arguments["region"]
        self._regions.register(request.caller, region, asked.key, asked.offset, asked.byte_size)
        return json_response({})

    def unregister(self, request: Request) -> Answer:
        self._regions.unregister(request.caller, request.arguments.get("region"))
        return json_response({})

    def status(self, request: Request) -> Answer:
        region = request.arguments.get("region")
        return json_response(self._regions.status(request.caller, region))


class RegionFields(msgspec.Struct):
    """What a registration says."""

    key: str
    byte_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)]
    offset: Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)] = 0


class Native:
    """What has no standard."""

    def __init__(self, service: Service, settings: ApiSettings) -> None:
        self._service = service
        self._heartbeat_s = settings.heartbeat_s
        self._max_streams = settings.max_event_streams
        self._streams = 0

    def routes(self) -> list[Route]:
        """Health, readings, events, status, metrics and the page."""
        return [
            Route("GET", "/", self.page, max_body=0),
            Route("GET", "/healthz", self.healthy, max_body=0),
            Route("GET", "/readyz", self.ready, max_body=0),
            Route("GET", "/metrics", self.metrics, max_body=0),
            Route("GET", "/api/status", self.status, max_body=0),
            Route("GET", "/api/models", self.models, max_body=0),
            Route("GET", "/api/events", self.events, max_body=0),
            Route("POST", "/api/readings", self.readings, Role.APP, max_body=MAX_PAYLOAD),
        ]

    def page(self, _: Request) -> Answer:
        return text_response(PAGE, b"text/html; charset=utf-8", PAGE_HEADERS)

    def healthy(self, _: Request) -> Answer:
        return json_response({"status": "ok"})

    def ready(self, _: Request) -> Answer:
        return _readiness(self._service.reasons())

    async def metrics(self, _: Request) -> Answer:
        text = await self._service.exposition()
        return text_response(text, CONTENT_TYPE.encode(), NO_STORE)

    async def status(self, _: Request) -> Answer:
        return json_response(await self._service.status(), headers=NO_STORE)

    async def models(self, _: Request) -> Answer:
        return json_response({"models": await self._service.repository.index()}, headers=NO_STORE)

    async def readings(self, request: Request) -> Answer:
        content_type = request.headers.get(b"content-type", b"").decode("latin-1")
        stream = request.query.get("stream", "")
        return json_response(await self._service.submit(request.body, content_type, stream))

    def events(self, request: Request) -> Answer:
        if self._streams >= self._max_streams:
            raise TooMany(f"{self._max_streams} event streams are open already")
        after = request.headers.get(b"last-event-id", request.query.get("after", "").encode())
        if after and not (after.isdigit() and len(after) < 16):
            raise BadPayload("must be the number of an event", where="Last-Event-ID")
        account = request.caller.account
        account.check_streams()
        return Stream(self._event_chunks(int(after) if after else None, account))

    async def _event_chunks(
        self, after: int | None, account: Account
    ) -> AsyncGenerator[bytes, None]:
        self._streams += 1
        account.streams += 1
        try:
            yield b": the agent's events\n\n"
            async for item in self._service.events(after, self._heartbeat_s):
                yield event_chunk(item)
        finally:
            self._streams -= 1
            account.streams -= 1


def event_chunk(item: Numbered | None) -> bytes:
    """One server-sent event; a comment when there is none."""
    if item is None:
        return b": still here\n\n"
    event = item.event
    data = _encode({"type": event.type, "time": event.time, "data": event.data})
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (item.id, event.type.encode(), data)


def reply_response(reply: Reply) -> Response:
    """An inference's reply as a response."""
    text, binary = reply
    if not binary:
        return Response([text])
    return Response(
        [text, *binary], BINARY, 200, b"Inference-Header-Content-Length: %d\r\n" % len(text)
    )


def header_length(request: Request) -> int | None:
    """Bytes of JSON at the body's start; None when all of it is JSON.

    Raises:
        BadPayload: the header is not a number of bytes.
    """
    value = request.headers.get(b"inference-header-content-length")
    if value is None:
        return None
    if not value.isdigit() or len(value) > 12:
        raise BadPayload("must be a number of bytes", where="Inference-Header-Content-Length")
    return int(value)


def _model(request: Request) -> tuple[str, str | None]:
    return request.arguments["model"], request.arguments.get("version")


def _readiness(reasons: list[str]) -> Response:
    if reasons:
        body = {"ready": False, "reasons": reasons}
        return json_response(body, 503, b"Retry-After: 1\r\n" + NO_STORE)
    return json_response({"ready": True, "reasons": []}, headers=NO_STORE)
