"""What has no standard: health, readings, events, status, metrics and the page."""

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from agent.api import answers
from agent.api.callers import Role
from agent.api.http.messages import (
    NO_STORE,
    Answer,
    Operation,
    Request,
    Route,
    Stream,
    json_response,
    text_response,
)
from agent.api.page import PAGE, PAGE_HEADERS
from agent.api.rates import Account
from agent.api.readiness import READY, readiness
from agent.api.readings import DECODERS
from agent.api.service import Service
from agent.api.settings import ApiSettings
from agent.errors import BadPayload, TooMany
from agent.pipelines.names import MAX_PAYLOAD
from agent.telemetry.events import Numbered
from agent.telemetry.exposition import CONTENT_TYPE

_encode = msgspec.json.Encoder(enc_hook=str).encode


_PAGE = Operation("A page for a browser", answer_media=("text/html",))
_HEALTH = Operation("Whether the daemon is there", answer=answers.Health)
_METRICS = Operation("Every metric, as Prometheus reads it", answer_media=("text/plain",))
_STATUS = Operation("Everything at a glance", answer=answers.Status)
_MODELS = Operation("Every installed model", answer=answers.ModelList)
_EVENTS = Operation(
    "What happens, as it happens, until the client goes",
    answer_media=("text/event-stream",),
    query={"after": "id of the last event that is known"},
    headers={"Last-Event-ID": "the same, as browsers send it"},
)
_READINGS = Operation(
    "Hand readings in; the answer comes when they are scored and on the disk",
    body=dict[str, Any] | list[dict[str, Any]],
    answer=answers.Submitted,
    body_media=tuple(media for media in DECODERS if media != "application/json"),
    query={"stream": "of readings that name none"},
)


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
            Route("GET", "/", self.page, max_body=0, operation=_PAGE),
            Route("GET", "/healthz", self.healthy, max_body=0, operation=_HEALTH),
            Route("GET", "/readyz", self.ready, max_body=0, operation=READY),
            Route("GET", "/metrics", self.metrics, max_body=0, operation=_METRICS),
            Route("GET", "/api/status", self.status, max_body=0, operation=_STATUS),
            Route("GET", "/api/models", self.models, max_body=0, operation=_MODELS),
            Route("GET", "/api/events", self.events, max_body=0, operation=_EVENTS),
            Route(
                "POST", "/api/readings", self.readings, Role.APP, MAX_PAYLOAD, operation=_READINGS
            ),
        ]

    def page(self, _: Request) -> Answer:
        return text_response(PAGE, b"text/html; charset=utf-8", PAGE_HEADERS)

    def healthy(self, _: Request) -> Answer:
        return json_response({"status": "ok"})

    def ready(self, _: Request) -> Answer:
        return readiness(self._service.reasons())

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
