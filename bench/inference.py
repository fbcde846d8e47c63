"""Inference through the socket beside the same session in process, and beside a bare ping-pong.

The unit is the time of a bare ping-pong: the same bytes there and back over a Unix socket between two
processes, with nothing else done. The server runs in a process of its own, as the daemon does, and
is measured in turn with the ping-pong and with the session in this process.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.clock import SystemClock
from agent.engines.base import NUMPY_DTYPES, EngineOptions, Session
from agent.engines.catalog import load_session
from agent.types import Tensors, TensorSpec
from bench.grpc_client import RawClient, infer_request
from bench.report import Row, Table

CLIENTS = 8
HEAD = 250  # bytes: what the head and the JSON part of an answer take
START_S = 20.0  # longest wait for a server, seconds


def run(quick: bool) -> Table:
    """Measure one client and eight; `quick` with fewer requests."""
    rounds, batch, seconds = (10, 50, 1.0) if quick else (40, 100, 4.0)
    path = model_file()
    load = Load.of(path)
    with (
        tempfile.TemporaryDirectory(prefix="bench-inference-") as directory,
        servers(path, load, Path(directory)) as places,
    ):
        times = one_client(load, places, rounds, batch)
        together = many_clients(load.binary, places["served"], seconds)
        bare = many_clients(load.binary, places["bare"], seconds)
    inside = len(times["inside"]) / sum(times["inside"])
    return Table(
        "Inference through the socket",
        [
            *_added(times, "binary", 4),
            *_added(times, "json", 5),
            *_added(times, "grpc", 7),
            *_clients_own(times),
            _rate("1 client", len(times["binary"]) / sum(times["binary"]), inside),
            _rate(f"{CLIENTS} clients", together, inside),
            Row(f"bare ping-pong, {CLIENTS} clients", bare, "requests/s"),
        ],
        [
            (
                f"{path.name}, {load.elements} int8 elements, requests of {len(load.binary)} bytes; "
                f"{rounds} alternating rounds of {batch} requests, the first one not counted."
            ),
            (
                f"In process, one caller: p50 {_us(times['inside'], 0.5):.1f} µs; "
                f"bare ping-pong (the unit): p50 {_us(times['bare'], 0.5):.1f} µs, "
                f"p99 {_us(times['bare'], 0.99):.1f} µs."
            ),
        ],
    )


def _added(times: dict[str, list[float]], kind: str, most: int) -> Iterator[Row]:
    unit = _us(times["bare"], 0.5)
    added = _us(times[kind], 0.5) - _us(times["inside"], 0.5)
    yield Row(
        f"{kind}, 1 client: p50 added over in process",
        added,
        "µs",
        "bare ping-pong",
        unit,
        added / unit,
        f"≤ {most} ping-pongs",
        added <= most * unit,
    )
    yield Row(f"{kind}, 1 client: p50", _us(times[kind], 0.5), "µs")
    yield Row(f"{kind}, 1 client: p99", _us(times[kind], 0.99), "µs")


def _clients_own(times: dict[str, list[float]]) -> Iterator[Row]:
    if "tritonclient" in times:
        yield Row(
            "gRPC by tritonclient, its own cost included: p50",
            _us(times["tritonclient"], 0.5),
            "µs",
        )


def _rate(name: str, rate: float, inside: float) -> Row:
    return Row(f"binary, {name}", rate, "requests/s", "in process", inside, rate / inside)


def _us(times: list[float], q: float) -> float:
    return 1e6 * float(np.quantile(times, q))


# What is sent


@dataclass(frozen=True)
class Load:
    """The same inference in each form: for the session, and as bytes on the wire."""

    session: Session
    tensors: Tensors
    elements: int
    binary: bytes
    json: bytes
    grpc: bytes
    answer: int  # bytes of the answer to `binary`

    @classmethod
    def of(cls, path: Path) -> "Load":
        session = open_session(path)
        spec = session.inputs[0]
        shape = [max(size, 1) for size in spec.shape]
        values = (
            np.random.default_rng(1).integers(-128, 128, shape).astype(NUMPY_DTYPES[spec.dtype])
        )
        head = {"name": spec.name, "datatype": spec.dtype, "shape": shape}
        size = {"parameters": {"binary_data_size": values.nbytes}}
        text = json.dumps(
            {"inputs": [head | size], "parameters": {"binary_data_output": True}}
        ).encode()
        plain = json.dumps({"inputs": [head | {"data": values.ravel().tolist()}]}).encode()
        return cls(
            session,
            {spec.name: values},
            values.size,
            _post(text + values.tobytes(), f"Inference-Header-Content-Length: {len(text)}\r\n"),
            _post(plain, ""),
            infer_request("bench", spec.name, spec.dtype, shape, values.tobytes()),
            sum(array.nbytes for array in session.run({spec.name: values}).values()),
        )


def _post(body: bytes, header: str) -> bytes:
    head = (
        f"POST /v2/models/bench/infer HTTP/1.1\r\nHost: localhost\r\n{header}"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def model_file() -> Path:
    """MLPerf Tiny's anomaly model where it is at hand, else the shipped one."""
    root = Path(__file__).resolve().parent.parent
    shared = Path(os.environ.get("EDGE_AGENT_SHARED") or root.parent / "shared" / "data")
    wanted = shared / "mlperf-tiny" / "ad01_int8.tflite"
    return wanted if wanted.exists() else root / "models" / "pump-anomaly" / "model.onnx"


def open_session(path: Path) -> Session:
    """The model in this process."""
    engine = path.suffix.removeprefix(".")
    return load_session(engine, path.read_bytes(), EngineOptions())


# Who answers


@contextmanager
def servers(model: Path, load: Load, directory: Path) -> Iterator[dict[str, Path]]:
    """The agent's daemon and a bare ping-pong, each in a process of its own."""
    places = {"served": directory / "agent.sock", "bare": directory / "bare.sock"}
    install(model, load.session, directory)
    answer = f"ping_pong({str(places['bare'])!r}, {len(load.binary)}, {load.answer + HEAD})"
    commands = [
        [sys.executable, "-m", "agent", "run", "--config", str(directory / "edge-agent.toml")],
        [sys.executable, "-c", f"from bench.inference import ping_pong; {answer}"],
    ]
    running = [subprocess.Popen(command) for command in commands]
    try:
        for place in places.values():
            connect(place).close()
        yield places
    finally:
        for process in running:
            process.terminate()
            process.wait()


def install(model: Path, session: Session, directory: Path) -> None:
    """Sign the model, install it as a device does, and configure the device."""
    from agent.registry import Registry
    from tools.fleet.repository import Repository

    package = directory / "package"
    package.mkdir()
    shutil.copy(model, package / model.name)
    (package / "model.toml").write_text(manifest(model, session))
    repository = Repository.create(directory / "repository", directory / "keys")
    repository.publish(package)
    registry = Registry(directory / "state" / "models", clock=SystemClock())
    registry.provision(repository.root_bytes())
    registry.install(str(directory / "repository"), "bench")
    (directory / "edge-agent.toml").write_text(
        '[device]\nid = "bench"\nstate = "state"\n[api]\nsocket = "agent.sock"\ngrpc = true\n'
        '[models]\npreload = ["bench"]\n[daemon]\nlog_level = "warning"\n'
    )


def manifest(model: Path, session: Session) -> str:
    """The model's own tensors, as a manifest says them."""
    data = model.read_bytes()
    engine = model.suffix.removeprefix(".")
    parts = [
        (
            'format = 1\nname = "bench"\nversion = "1.0.0"\ntask = "tensor"\nlicense = "Apache-2.0"\n'
            f'engine = "{engine}"\nsummary = "What is measured"\n[[files]]\npath = "{model.name}"\n'
            f'role = "model"\nsha256 = "{hashlib.sha256(data).hexdigest()}"\nsize = {len(data)}\n'
        )
    ]
    parts += [_described("inputs", spec) for spec in session.inputs]
    parts += [_described("outputs", spec) for spec in session.outputs]
    return "".join(parts)


def _described(kind: str, spec: TensorSpec) -> str:
    text = f'[[{kind}]]\nname = "{spec.name}"\ndtype = "{spec.dtype}"\nshape = {list(spec.shape)}\n'
    if spec.quantization is None:
        return text
    scale, zero_point = spec.quantization.scale, spec.quantization.zero_point
    return f"{text}quantization = {{ scale = {scale!r}, zero_point = {zero_point} }}\n"


def ping_pong(path: str, request: int, answer: int) -> None:
    """Answer so many bytes with so many, for any number of clients at once."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        client, _ = listener.accept()
        if os.fork() == 0:
            _answer(client, request, b"x" * answer)
            os._exit(0)
        client.close()


def _answer(client: socket.socket, request: int, data: bytes) -> None:
    left = request
    while received := client.recv(65536):
        left -= len(received)
        if left == 0:
            client.sendall(data)
            left = request


# Who asks


def one_client(
    load: Load, places: dict[str, Path], rounds: int, batch: int
) -> dict[str, list[float]]:
    """Seconds of each request, by what was asked; in turns, the first round not counted."""
    served, bare = connect(places["served"]), connect(places["bare"])
    grpc = places["served"].with_name("agent.sock.grpc")
    asks: dict[str, Callable[[], object]] = {
        "bare": lambda: _exchange_bare(bare, load.binary, load.answer + HEAD),
        "inside": lambda: load.session.run(load.tensors),
        "binary": lambda: exchange(served, load.binary),
        "json": lambda: exchange(served, load.json),
        "grpc": RawClient(connect(grpc), load.grpc).exchange,
    }
    if (ask := tritons_client(load, grpc)) is not None:
        asks["tritonclient"] = ask
    times: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(rounds + 1):
        for name, ask in asks.items():
            measured = [timed(ask) for _ in range(batch)]
            if number:
                times[name] += measured
    return times


def tritons_client(load: Load, path: Path) -> Callable[[], object] | None:
    """The same by Triton's own client; None where it is not installed."""
    try:
        import tritonclient.grpc as triton
    except ImportError:
        return None
    client = triton.InferenceServerClient(f"unix:{path}")
    (name, values), spec = next(iter(load.tensors.items())), load.session.inputs[0]
    given = triton.InferInput(name, values.shape, spec.dtype)
    given.set_data_from_numpy(values)
    return lambda: client.infer("bench", [given])


def timed(ask: Callable[[], object]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    ask()
    return time.perf_counter() - begun


def connect(path: Path, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """A connection, as soon as somebody listens."""
    deadline = time.monotonic() + START_S
    while True:
        client = socket.socket(socket.AF_UNIX, kind)
        try:
            client.connect(str(path))
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return client


def exchange(client: socket.socket, request: bytes) -> bytes:
    """One request and its whole answer."""
    client.sendall(request)
    data = client.recv(65536)
    start = data.index(b"\r\n\r\n") + 4
    length = int(data[data.index(b"Content-Length: ") + 16 :].split(b"\r\n", 1)[0])
    while len(data) < start + length:
        data += client.recv(65536)
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(data.decode(errors="replace"))
    return data


def _exchange_bare(client: socket.socket, request: bytes, answer: int) -> None:
    client.sendall(request)
    while answer > 0:
        answer -= len(client.recv(65536))


def many_clients(request: bytes, path: Path, seconds: float) -> float:
    """Requests per second of several processes that each ask again as soon as they are answered."""
    context = multiprocessing.get_context("fork")
    with context.Pool(CLIENTS) as pool:
        bare = path.name == "bare.sock"
        counts = pool.starmap(_ask_for, [(request, str(path), seconds, bare)] * CLIENTS, 1)
    return sum(counts) / seconds


def _ask_for(request: bytes, path: str, seconds: float, bare: bool) -> int:
    client, count = connect(Path(path)), 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if bare:
            client.sendall(request)
            client.recv(65536)
        else:
            exchange(client, request)
        count += 1
    return count
