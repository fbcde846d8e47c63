"""The local API, running on a real socket inside the test's own event loop."""

import asyncio
import contextlib
import ssl
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from agent.api.server import ApiServer
from agent.api.service import Service
from agent.api.settings import ApiSettings
from agent.clock import SystemClock
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics
from agent.telemetry.probes import Probes
from agent.types import Quantization, TensorSpec
from tests.fakes.engine import FakeModels, echo
from tests.support.wire import Wire


class Served:
    """A running API and its parts."""

    def __init__(self, settings: ApiSettings, service: Service, events: EventBus) -> None:
        self.settings = settings
        self.service = service
        self.events = events
        self.metrics = service.metrics
        self.server = ApiServer(settings, service)
        self.wires: list[Wire] = []

    @property
    def path(self) -> Path:
        return self.settings.socket

    async def connect(self) -> Wire:
        self.wires.append(await Wire.open(self.path))
        return self.wires[-1]

    async def connect_tcp(self, tls: ssl.SSLContext | None = None) -> Wire:
        streams = await asyncio.open_connection(
            "127.0.0.1", self.server.tcp_port, ssl=tls, server_hostname="localhost" if tls else None
        )
        self.wires.append(Wire(*streams))
        return self.wires[-1]

    async def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
        """One request on a connection of its own."""
        return await (await self.connect()).call(method, path, body, **headers)


Serve = Callable[..., "contextlib.AbstractAsyncContextManager[Served]"]

ECHO = TensorSpec("x", "INT8", (-1, 4), quantization=Quantization(0.5, 1))
FLOATS = TensorSpec("x", "FP32", (-1, 4))


@contextlib.asynccontextmanager
async def serving(
    directory: Path,
    models: FakeModels | None = None,
    *,
    parts: dict[str, Any] | None = None,
    **changes: Any,
) -> AsyncIterator[Served]:
    """Serve with any settings and parts; without models, one that echoes."""
    settings = replace(ApiSettings(socket=directory / "agent.sock"), **changes)
    events = EventBus()
    service = Service(
        models or FakeModels(echo(ECHO)),
        device="test-device",
        clock=SystemClock(),
        metrics=Metrics(),
        events=events,
        probes=Probes(directory),
        **(parts or {}),
    )
    served = Served(settings, service, events)
    await served.server.start()
    try:
        yield served
    finally:
        for wire in served.wires:
            wire.close()
        await served.server.close(1.0)


CALL_AS = """
import os, socket, sys
os.setgroups([]); os.setgid({uid}); os.setuid({uid})
client = socket.socket(socket.AF_UNIX)
client.connect({path!r})
try:
    client.sendall({data!r})
except BrokenPipeError:
    pass  # refused before it could ask
print(client.recv(65536).decode())
"""


async def call_as(uid: int, path: Path, data: bytes) -> str:
    """One request by a process of another user."""
    program = CALL_AS.format(uid=uid, path=str(path), data=data)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE
    )
    return (await asyncio.wait_for(process.communicate(), 20))[0].decode()
