"""The methods of `inference.GRPCInferenceService`, thin over the service."""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agent import logs
from agent.api import verbosity
from agent.api.callers import Role
from agent.api.grpc import schema
from agent.api.grpc.codec import Codec
from agent.api.grpc.statuses import Unimplemented
from agent.api.inference import Call
from agent.api.served import Reply
from agent.errors import BadPayload

if TYPE_CHECKING:
    from agent.api.grpc.connection import GrpcConnection
    from agent.api.service import Service

Handler = Callable[["GrpcConnection", bytes], "bytes | Awaitable[bytes]"]


@dataclass(frozen=True, slots=True)
class Method:
    """One method.

    Attributes:
        name: for metrics and logs.
        handler: answers a message, given who asks.
        role: that a caller needs.
        streaming: many messages, each with an answer.
    """

    name: str
    handler: Handler
    role: Role = Role.VIEWER
    streaming: bool = False

    def wrap(self, answer: bytes) -> bytes:
        """An answer among many: ModelStreamInferResponse with its field infer_response."""
        data: bytes = schema.message("ModelStreamInferResponse")(
            infer_response=schema.message("ModelInferResponse").FromString(answer)
        ).SerializeToString()
        return data

    def wrap_error(self, text: str) -> bytes:
        """An error among answers, after which the stream goes on."""
        data: bytes = schema.message("ModelStreamInferResponse")(
            error_message=text
        ).SerializeToString()
        return data


class _Later:
    """An answer that takes time. Not a coroutine: one may be given up before it was begun."""

    def __init__(self, reply: Awaitable[Reply], codec: Codec) -> None:
        self._reply = reply
        self._codec = codec

    def __await__(self) -> Generator[Any, None, bytes]:
        reply = yield from self._reply.__await__()
        return self._codec.answer(*reply)

    def close(self) -> None:
        close = getattr(self._reply, "close", None)
        if close is not None:
            close()


class Methods:
    """The table of methods by path."""

    def __init__(self, service: "Service") -> None:
        self._service = service
        self._table = {f"/{schema.PACKAGE}.{schema.SERVICE}/{m.name}": m for m in self._methods()}

    def get(self, path: str) -> Method | None:
        """The method of a path."""
        return self._table.get(path)

    @property
    def names(self) -> list[str]:
        """All methods that are offered."""
        return [method.name for method in self._table.values()]

    def _methods(self) -> list[Method]:
        look = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelConfig": self.model_config,
            "ModelStatistics": self.model_statistics,
            "RepositoryIndex": self.repository_index,
        }
        change = {
            "RepositoryModelLoad": (self.load, Role.OPERATOR),
            "RepositoryModelUnload": (self.unload, Role.OPERATOR),
            "SystemSharedMemoryStatus": (self.regions, Role.APP),
            "SystemSharedMemoryRegister": (self.register, Role.APP),
            "SystemSharedMemoryUnregister": (self.unregister, Role.APP),
            "LogSettings": (self.log_settings, Role.OPERATOR),
        }
        return [
            Method("ModelInfer", self.infer, Role.APP),
            Method("ModelStreamInfer", self.infer, Role.APP, streaming=True),
            *(Method(name, self._cold(name, handler)) for name, handler in look.items()),
            *(Method(n, self._cold(n, handler), role) for n, (handler, role) in change.items()),
            *(Method(name, _refused) for name in _NOT_HERE),
        ]

    def _cold(self, name: str, handler: Callable[..., Awaitable[Any]]) -> Handler:
        """A method whose messages go through protobuf's own classes."""

        async def answer(connection: "GrpcConnection", data: bytes) -> bytes:
            from google.protobuf.message import DecodeError

            try:
                request = schema.message(f"{name}Request").FromString(data)
            except DecodeError as error:
                raise BadPayload(f"it is not a {name}Request", where="message") from error
            response = schema.message(f"{name}Response")()
            await handler(connection, request, response)
            encoded: bytes = response.SerializeToString()
            return encoded

        return answer

    # Inference

    def infer(self, connection: "GrpcConnection", data: bytes) -> "bytes | Awaitable[bytes]":
        """ModelInfer, and each message of ModelStreamInfer."""
        asked = connection.codec.request(data)
        shared = self._service.regions.of(connection.caller)
        body = asked.header + asked.body
        call = Call(asked.name, asked.version, body, len(asked.header), shared)
        reply = self._service.inference.infer(call)
        if isinstance(reply, tuple):
            return connection.codec.answer(*reply)
        return _Later(reply, connection.codec)

    # Health and models

    async def server_live(self, _: Any, __: Any, response: Any) -> None:
        response.live = True

    async def server_ready(self, _: Any, __: Any, response: Any) -> None:
        response.ready = not self._service.reasons()

    async def server_metadata(self, _: Any, __: Any, response: Any) -> None:
        found = self._service.server_metadata()
        response.name, response.version = found["name"], found["version"]
        response.extensions.extend(found["extensions"])

    async def model_ready(self, _: Any, request: Any, response: Any) -> None:
        response.ready = await self._service.model_ready(request.name, request.version or None)

    async def model_metadata(self, _: Any, request: Any, response: Any) -> None:
        found = await self._service.model_metadata(request.name, request.version or None)
        response.name, response.platform = found["name"], found["platform"]
        response.versions.extend(found["versions"])
        for way in (response.inputs, response.outputs):
            for tensor in found["inputs" if way is response.inputs else "outputs"]:
                way.add(name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"])

    async def model_config(self, _: Any, request: Any, response: Any) -> None:
        repository = self._service.repository
        found = await repository.configuration(request.name, request.version or None)
        config = response.config
        config.name, config.platform, config.backend = (
            found["name"], found["platform"], found["backend"],
        )  # fmt: skip
        config.max_batch_size = found["max_batch_size"]
        for way, tensors in ((config.input, found["input"]), (config.output, found["output"])):
            for tensor in tensors:
                number = schema.DATA_TYPES.index(tensor["data_type"])
                way.add(name=tensor["name"], data_type=number, dims=tensor["dims"])

    async def model_statistics(self, _: Any, request: Any, response: Any) -> None:
        repository = self._service.repository
        found = await repository.statistics(request.name or None, request.version or None)
        for model in found["model_stats"]:
            success, fail = (model["inference_stats"][key] for key in ("success", "fail"))
            made = response.model_stats.add(
                name=model["name"],
                version=model["version"],
                inference_count=model["inference_count"],
                execution_count=model["execution_count"],
            )
            made.inference_stats.success.count = success["count"]
            made.inference_stats.success.ns = success["ns"]
            made.inference_stats.fail.count = fail["count"]

    async def repository_index(self, _: Any, request: Any, response: Any) -> None:
        for model in await self._service.repository.index(ready=request.ready):
            response.models.add(
                name=model["name"], version=model["version"],
                state=model["state"], reason=model["reason"],
            )  # fmt: skip

    async def load(self, _: Any, request: Any, __: Any) -> None:
        await self._service.repository.load(request.model_name, dict(request.parameters))

    async def unload(self, _: Any, request: Any, __: Any) -> None:
        await self._service.repository.unload(request.model_name)

    # Shared memory

    async def register(self, connection: "GrpcConnection", request: Any, _: Any) -> None:
        self._service.regions.register(
            connection.caller, request.name, request.key, request.offset, request.byte_size
        )

    async def unregister(self, connection: "GrpcConnection", request: Any, _: Any) -> None:
        self._service.regions.unregister(connection.caller, request.name or None)

    async def regions(self, connection: "GrpcConnection", request: Any, response: Any) -> None:
        for region in self._service.regions.status(connection.caller, request.name or None):
            made = response.regions[region["name"]]
            made.name, made.key = region["name"], region["key"]
            made.offset, made.byte_size = region["offset"], region["byte_size"]

    # Logging

    async def log_settings(self, _: Any, request: Any, response: Any) -> None:
        asked = {}
        for name, value in request.settings.items():
            choice = value.WhichOneof("parameter_choice")
            if choice is not None:
                asked[name] = getattr(value, choice)
        level = verbosity.current()
        if asked:
            level = verbosity.chosen(_log_fields(asked), level)
            logs.set_level(level)
        for name, value in verbosity.described(level).items():
            field = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
            setattr(response.settings[name], field, value)


#: What Triton has and this agent does not: memory of a GPU, and traces of single requests.
_NOT_HERE = (
    "CudaSharedMemoryStatus",
    "CudaSharedMemoryRegister",
    "CudaSharedMemoryUnregister",
    "TraceSetting",
)


def _log_fields(asked: dict[str, Any]) -> verbosity.LogFields:
    try:
        return msgspec.convert(asked, verbosity.LogFields)
    except msgspec.ValidationError as error:
        raise BadPayload(str(error), where="settings") from error


def _refused(_: "GrpcConnection", __: bytes) -> bytes:
    raise Unimplemented("this agent has neither GPU memory nor request traces")
