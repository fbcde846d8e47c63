"""Camera frames through shared memory: what the socket adds must not grow with the frame.

The model looks at one pixel, so that what is measured is how the frame gets there: as bytes in the
request, as a named region (which is copied), and as a sealed anonymous one (which is not).
"""

import asyncio
import fcntl
import json
import mmap
import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agent.engines.base import Session
from agent.types import Array, ModelRef, Tensors, TensorSpec
from bench.inference import HEAD, connect, exchange, timed
from bench.report import Row, Table

SIZES = {"96x96x3": (96, 96, 3), "640x480x3": (480, 640, 3)}
MOST = 3  # ping-pongs


def run(quick: bool) -> Table:
    """Measure two sizes of frames; `quick` with fewer requests."""
    rounds, batch = (10, 20) if quick else (40, 50)
    with tempfile.TemporaryDirectory(prefix="bench-frames-") as directory:
        times = _measure(Path(directory) / "agent.sock", rounds, batch)
    unit = _p50(times["bare"])
    return Table(
        "Frames",
        [_row(name, _p50(taken), unit) for name, taken in times.items() if name != "bare"],
        [f"The model reads one pixel. {rounds} alternating rounds of {batch} requests."],
    )


def _row(name: str, p50: float, unit: float) -> Row:
    sealed = "sealed" in name
    return Row(
        name,
        p50,
        "µs",
        "bare ping-pong",
        unit,
        p50 / unit,
        f"≤ {MOST} ping-pongs" if sealed else "",
        p50 <= MOST * unit if sealed else None,
    )


def _p50(times: Sequence[float]) -> float:
    return 1e6 * sorted(times)[len(times) // 2]


def _measure(path: Path, rounds: int, batch: int) -> dict[str, list[float]]:
    bare = path.with_name("bare.sock")
    small = ask(shared("named-96x96x3", 96 * 96 * 3), SIZES["96x96x3"])
    commands = [
        f"from bench.frames import serve; serve({str(path)!r})",
        f"from bench.inference import ping_pong; ping_pong({str(bare)!r}, {len(small)}, {HEAD})",
    ]
    running = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    try:
        return _rounds(path, bare, small, rounds, batch)
    finally:
        for process in running:
            process.terminate()
            process.wait()


def _rounds(
    path: Path, bare: Path, small: bytes, rounds: int, batch: int
) -> dict[str, list[float]]:
    client, pinger = connect(path), connect(bare)
    passer = connect(Path(f"{path}.fd"), socket.SOCK_SEQPACKET)
    keys = [_registered(client, passer, name, _bytes(shape)) for name, shape in SIZES.items()]
    asks: dict[str, Callable[[], object]] = {"bare": lambda: _ping(pinger, small)}
    for name, shape in SIZES.items():
        size = _bytes(shape)
        forms = {
            "in the request": ask({"binary_data_size": size}, shape, bytes(size)),
            "named shared memory": ask(shared(f"named-{name}", size), shape),
            "sealed shared memory": ask(shared(f"sealed-{name}", size), shape),
        }
        for form, request in forms.items():
            asks[f"{name}, {form}"] = lambda request=request: exchange(client, request)
    times: dict[str, list[float]] = {name: [] for name in asks}
    try:
        for _ in range(rounds):
            for name, question in asks.items():
                times[name] += [timed(question) for _ in range(batch)]
    finally:
        for key in keys:
            Path("/dev/shm", key).unlink()
    return times


def _ping(client: socket.socket, request: bytes) -> None:
    client.sendall(request)
    client.recv(65536)


def _bytes(shape: tuple[int, ...]) -> int:
    height, width, colours = shape
    return height * width * colours


def _registered(client: socket.socket, passer: socket.socket, name: str, size: int) -> str:
    """Register a named and a sealed region; the key of the named one."""
    key = f"bench-frames-{secrets.token_hex(4)}"
    Path("/dev/shm", key).write_bytes(bytes(size))
    body = json.dumps({"key": key, "byte_size": size}).encode()
    exchange(client, post(f"/v2/systemsharedmemory/region/named-{name}/register", body))
    descriptor = os.memfd_create(name, os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, size)
    mmap.mmap(descriptor, size)[:] = bytes(size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    packet = json.dumps({"region": f"sealed-{name}", "byte_size": size}).encode()
    socket.send_fds(passer, [packet], [descriptor])
    if (answer := passer.recv(1024)) != b"{}":
        raise RuntimeError(answer.decode())
    os.close(descriptor)
    return key


def shared(region: str, size: int) -> dict[str, Any]:
    """Parameters of a tensor in shared memory."""
    return {"shared_memory_region": region, "shared_memory_byte_size": size}


def ask(parameters: dict[str, Any], shape: tuple[int, ...], data: bytes = b"") -> bytes:
    """A request for one frame."""
    tensor = {"name": "frame", "datatype": "UINT8", "shape": shape, "parameters": parameters}
    text = json.dumps({"inputs": [tensor]}).encode()
    header = f"Inference-Header-Content-Length: {len(text)}\r\n" if data else ""
    return post("/v2/models/look/infer", text + data, header)


def post(path: str, body: bytes, header: str = "") -> bytes:
    """A request as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


# The server's side


class Look(Session):
    """Answers the first pixel of a frame."""

    def __init__(self) -> None:
        inputs = [TensorSpec("frame", "UINT8", (-1, -1, 3))]
        super().__init__(inputs, [TensorSpec("pixel", "UINT8", (3,))])

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        return [arrays[0][0, 0].copy()]

    def _close(self) -> None:
        pass


@dataclass(frozen=True)
class LookManifest:
    """What a manifest would say."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    task: str = "tensor"
    engine: str = "none"
    summary: str = "Answers the first pixel"
    parameters: dict[str, Any] = field(default_factory=dict)


class OneModel:
    """A loaded model, and all the models that there are."""

    def __init__(self) -> None:
        self.session = Look()
        self.ref = ModelRef("look", "1.0.0")
        self.manifest = LookManifest(self.session.inputs, self.session.outputs)
        self.typical_s = self.batch_gain = 0.0
        self.memory = 0
        self.run: Callable[[Tensors], dict[str, Array]] = self.session.run

    def begin(self, tensors: Tensors, _briefly_s: float) -> dict[str, Array]:
        return self.run(tensors)

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()

    def peek(self, _name: str, _version: str | None = None) -> "OneModel":
        return self

    async def get(self, _name: str, _version: str | None = None) -> "OneModel":
        return self

    async def unload(self, _name: str) -> None:
        pass

    def index(self) -> list[Any]:
        return []


def serve(path: str, mode: str = "0600") -> None:
    """The agent's API over the model."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(Path(path), mode))


async def _serve(path: Path, mode: str) -> None:
    from agent.api.server import ApiServer
    from agent.api.service import Service
    from agent.api.settings import ApiSettings
    from agent.clock import SystemClock
    from agent.telemetry.events import EventBus
    from agent.telemetry.metrics import Metrics
    from agent.telemetry.probes import Probes

    service = Service(
        OneModel(),
        device="bench",
        clock=SystemClock(),
        metrics=Metrics(),
        events=EventBus(),
        probes=Probes(path.parent),
    )
    await ApiServer(ApiSettings(socket=path, mode=mode), service).start()
    await asyncio.Event().wait()
