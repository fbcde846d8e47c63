"""The Open Inference Protocol's paths, `/v2/...`: thin over the service."""

from collections.abc import Awaitable
from typing import Annotated, Any

import msgspec

from agent.api import answers
from agent.api.callers import Role
from agent.api.doubt import Query
from agent.api.http.messages import Answer, Operation, Request, Response, Route, json_response
from agent.api.inference import Call
from agent.api.oip.messages import InferenceRequest, InferenceResponse
from agent.api.readiness import READY, readiness
from agent.api.regions import Regions
from agent.api.repository import ModelRepository
from agent.api.served import Reply
from agent.api.service import Service
from agent.errors import BadPayload, NotReady

BINARY = "application/octet-stream"
_BINARY = BINARY.encode()
MAX_ASKED = 64 * 1024  # bytes of a request about models


MODEL_PATHS = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")

_SERVER = Operation("Name, version and extensions", answer=answers.ServerMetadata)
_LIVE = Operation("Whether the daemon is there", answer=answers.Live)
_MODEL = Operation("A model's versions and tensors", answer=answers.ModelMetadata)
_LOADED = Operation("Whether a model is loaded", answer=answers.ModelReadiness)
_INFER = Operation(
    "Run a model",
    body=InferenceRequest,
    answer=InferenceResponse,
    body_media=(BINARY,),
    answer_media=(BINARY,),
    headers={
        "Inference-Header-Content-Length": "bytes of JSON before binary tensors; "
        "0 when the body is one raw tensor; without it all of the body is JSON",
        "Prefer": "escalate=POLICY asks a person where the model is unsure; wait=SECONDS for the answer",
    },
)


class IndexFields(msgspec.Struct):
    """Which models are asked for."""

    ready: bool = False


class LoadFields(msgspec.Struct):
    """Parameters that a model could be loaded with; the agent takes none."""

    parameters: dict[str, Any] = {}


class RegionFields(msgspec.Struct):
    """What a registration says."""

    key: str
    byte_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)]
    offset: Annotated[int, msgspec.Meta(ge=0, lt=1 << 48)] = 0


_INDEX = Operation(
    "Every installed model and how it stands",
    body=IndexFields,
    answer=list[answers.ModelEntry],
    body_required=False,
)
_LOAD = Operation("Load a model", body=LoadFields, answer=answers.Empty, body_required=False)
_UNLOAD = Operation(
    "Give a model's memory back", body=LoadFields, answer=answers.Empty, body_required=False
)
_CONFIG = Operation("Types and shapes of a model", answer=answers.ModelConfiguration)
_STATISTICS = Operation("Requests and times since the start", answer=answers.Statistics)
_REGISTER = Operation("Make shared memory known by a name", body=RegionFields, answer=answers.Empty)
_UNREGISTER = Operation("Forget shared memory", answer=answers.Empty)
_REGIONS = Operation("The caller's shared memory", answer=list[answers.RegionEntry])


class OpenInference:
    """The Open Inference Protocol, version 2."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> list[Route]:
        """Health, metadata and inference."""
        table = [
            Route("GET", "/v2", self.server, max_body=0, operation=_SERVER),
            Route("GET", "/v2/health/live", self.live, max_body=0, operation=_LIVE),
            Route("GET", "/v2/health/ready", self.ready, max_body=0, operation=READY),
        ]
        for model in MODEL_PATHS:
            table += [
                Route("GET", model, self.model, max_body=0, operation=_MODEL),
                Route("GET", f"{model}/ready", self.model_ready, max_body=0, operation=_LOADED),
                Route("POST", f"{model}/infer", self.infer, Role.APP, operation=_INFER, waits=True),
            ]
        return table

    def server(self, _: Request) -> Answer:
        return json_response(self._service.server_metadata())

    def live(self, _: Request) -> Answer:
        return json_response({"live": True})

    def ready(self, _: Request) -> Answer:
        return readiness(self._service.reasons())

    async def model(self, request: Request) -> Answer:
        name, version = _model(request)
        return json_response(await self._service.model_metadata(name, version))

    async def model_ready(self, request: Request) -> Answer:
        name, version = _model(request)
        if not await self._service.model_ready(name, version):
            raise NotReady("the model is not ready", where=name)
        return json_response({"name": name, "ready": True})

    def infer(self, request: Request) -> "Answer | Awaitable[Answer]":
        name, version = _model(request)
        shared = self._service.regions.of(request.caller)
        call = Call(name, version, request.body, header_length(request), shared)
        doubts = self._service.doubts
        policy = doubts.policy(name, request.headers.get(b"prefer", b""))
        if policy is not None:
            query = Query(call, policy, request.caller.uid, request.wait_s)
            return self._later(doubts.infer(query))
        reply = self._service.inference.infer(call)
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
            Route("POST", "/v2/repository/index", self.index, max_body=MAX_ASKED, operation=_INDEX),
            Route("GET", "/v2/models/stats", self.statistics, max_body=0, operation=_STATISTICS),
        ]
        for verb, handler, told in (("load", self.load, _LOAD), ("unload", self.unload, _UNLOAD)):
            path = f"/v2/repository/models/{{model}}/{verb}"
            table.append(Route("POST", path, handler, Role.OPERATOR, MAX_ASKED, operation=told))
        for model in MODEL_PATHS:
            table += [
                Route("GET", f"{model}/config", self.configuration, max_body=0, operation=_CONFIG),
                Route("GET", f"{model}/stats", self.statistics, max_body=0, operation=_STATISTICS),
            ]
        return table

    async def index(self, request: Request) -> Answer:
        asked = request.decoded(IndexFields)
        return json_response(await self._repository.index(ready=asked.ready))

    async def load(self, request: Request) -> Answer:
        asked = request.decoded(LoadFields)
        await self._repository.load(request.arguments["model"], asked.parameters)
        return json_response({})

    async def unload(self, request: Request) -> Answer:
        request.decoded(LoadFields)  # unload_dependents: nothing here depends on a model
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
            Route(
                "POST", f"{one}/register", self.register, Role.APP, MAX_ASKED, operation=_REGISTER
            ),
            *(
                Route(
                    "POST",
                    f"{path}/unregister",
                    self.unregister,
                    Role.APP,
                    0,
                    operation=_UNREGISTER,
                )
                for path in (one, every)
            ),
            *(
                Route("GET", f"{path}/status", self.status, Role.APP, 0, operation=_REGIONS)
                for path in (one, every)
            ),
        ]

    def register(self, request: Request) -> Answer:
        asked = request.decoded(RegionFields)
        region = request.arguments["region"]
        self._regions.register(request.caller, region, asked.key, asked.offset, asked.byte_size)
        return json_response({})

    def unregister(self, request: Request) -> Answer:
        self._regions.unregister(request.caller, request.arguments.get("region"))
        return json_response({})

    def status(self, request: Request) -> Answer:
        region = request.arguments.get("region")
        return json_response(self._regions.status(request.caller, region))


def reply_response(reply: Reply) -> Response:
    """An inference's reply as a response."""
    text, binary = reply
    if not binary:
        return Response([text, b"\n"])  # as of every JSON body, see `json_body`
    return Response(
        [text, *binary], _BINARY, 200, b"Inference-Header-Content-Length: %d\r\n" % len(text)
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
