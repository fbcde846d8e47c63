"""What isolation costs and what it saves: time, a crash, a new version, memory; and what batching gains.

One daemon serves the same model in its own process and in a worker, and models that are made here.
The unit is a bare ping-pong of the same bytes over a Unix socket between two processes, in turns with
what is measured.
"""

import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import SystemClock
from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.engines.isolated import PROGRAM, IsolatedSession
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.registry import Registry
from agent.types import Tensors
from bench.footprint import pss_mib
from bench.inference import connect, exchange, many_clients, model_file, timed
from bench.made_models import HEAVY, LAYERS, WIDTH, make_packages
from bench.report import Row, Table
from tests.support.device import Device, install_models
from tests.support.onnx_model import onnx_model
from tests.support.packages import random_tensor

CLIENTS = 8
HEAD = 250  # bytes: what the head and the JSON part of an answer take
KILLS = 3
FOR_EVER = 2**62

CONFIG = """
[models]
preload = ["plain", "apart", "looping", "wide", "swapped"]
[serving]
isolated = ["apart", "looping"]
[daemon]
log_level = "error"
"""


def run(quick: bool) -> Table:
    """Measure all of it; `quick` with fewer requests and swaps."""
    rounds, batch, seconds, swaps = (10, 50, 1.0, 20) if quick else (40, 100, 4.0, 100)
    with tempfile.TemporaryDirectory(prefix="bench-isolation-") as directory:
        root = Path(directory)
        packages = make_packages(root / "packages")
        device = Device(root / "d", CONFIG)
        models = install_models(root / "installed", packages)
        registry = Registry(models, clock=SystemClock())
        registry.install(str(root / "installed" / "repository"), "swapped", "1.0.0")
        device.adopt(models)
        device.start()
        try:
            rows = [
                *added(device, root, rounds, batch),
                *killed(device),
                *swapped(device, swaps),
                *unloaded(device),
                *batched(device, root / "packages", seconds),
            ]
        finally:
            device.kill()
    return Table(
        "Isolation, new versions, batches",
        rows,
        [
            f"{model_file().name}, {rounds} alternating rounds of {batch} requests, the first not counted.",
            f"{KILLS} kills in a row; {swaps} activations while {CLIENTS} clients ask.",
            f"Batches: {LAYERS} layers of {WIDTH} by {WIDTH}, one row a request.",
        ],
    )


# Requests


def one_request(session: Session) -> Tensors:
    """One row of random elements for each input."""
    random = np.random.default_rng(1)
    return {spec.name: random_tensor(spec, random) for spec in session.inputs}


def wire(model: str, tensors: Tensors, session: Session) -> bytes:
    """A request of binary tensors, as it travels."""
    dtypes = {spec.name: spec.dtype for spec in session.inputs}
    inputs = [
        {
            "name": name,
            "datatype": dtypes[name],
            "shape": array.shape,
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    text = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = text + b"".join(array.tobytes() for array in tensors.values())
    head = (
        f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: localhost\r\n"
        f"Inference-Header-Content-Length: {len(text)}\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# Time


def added(device: Device, root: Path, rounds: int, batch: int) -> Iterator[Row]:
    """p50 that isolation adds, to a session in process and to a request over the socket."""
    data, engine = model_file().read_bytes(), model_file().suffix.removeprefix(".")
    options = {"engine": engine, "model": "model"}
    inside = load_session(engine, data, EngineOptions())
    apart = IsolatedSession(Worker(Job("bench", PROGRAM, options), lambda: {"model": data}))
    tensors = one_request(inside)
    plain, isolated = wire("plain", tensors, inside), wire("apart", tensors, inside)
    answer = sum(array.nbytes for array in inside.run(tensors).values()) + HEAD
    served = connect(device.socket)
    with bare(root / "bare.sock", len(plain), answer) as other:
        times = in_turns(
            {
                "bare": lambda: _exchange(other, plain, answer),
                "inside": lambda: inside.run(tensors),
                "isolated": lambda: apart.run(tensors),
                "served": lambda: exchange(served, plain),
                "served isolated": lambda: exchange(served, isolated),
            },
            rounds,
            batch,
        )
    apart.close()
    served.close()
    unit = times["bare"]
    for name, one, two in (
        ("a session", "inside", "isolated"),
        ("a request over the socket", "served", "served isolated"),
    ):
        more = times[two] - times[one]
        yield Row(
            f"p50 added by isolation to {name}",
            1e6 * more,
            "µs",
            "bare ping-pong",
            1e6 * unit,
            more / unit,
            "≤ 2 ping-pongs",
            more <= 2 * unit,
        )


def in_turns(asks: dict[str, Callable[[], object]], rounds: int, batch: int) -> dict[str, float]:
    """Median seconds of each, the first round not counted."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    for number in range(rounds + 1):
        for name, ask in asks.items():
            measured = [timed(ask) for _ in range(batch)]
            if number:
                times[name] += measured
    return {name: statistics.median(found) for name, found in times.items()}


@contextmanager
def bare(path: Path, request: int, answer: int) -> Iterator[socket.socket]:
    """A connection to a bare ping-pong in a process of its own."""
    code = f"from bench.inference import ping_pong; ping_pong({str(path)!r}, {request}, {answer})"
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield connect(path)
    finally:
        process.kill()
        process.wait()


def _exchange(client: socket.socket, request: bytes, answer: int) -> None:
    client.sendall(request)
    while answer > 0:
        answer -= len(client.recv(65536))


# A killed worker


def killed(device: Device) -> list[Row]:
    """Seconds from the kill of a worker to the error of who waited, and to the next answer."""
    errors, answers = zip(*(_kill(device) for _ in range(KILLS)), strict=True)
    error, answer = 1000 * max(errors), max(answers)
    return [
        Row("worker killed: error to the caller, the slowest", error, "ms",
            target="≤ 100 ms", ok=error <= 100),
        Row("worker killed: next request answered, the slowest", answer, "s",
            target="≤ 3 s", ok=answer <= 3),
    ]  # fmt: skip


def _kill(device: Device) -> tuple[float, float]:
    told: list[tuple[float, str]] = []

    def wait() -> None:
        answer = _count(device, FOR_EVER)
        told.append((time.perf_counter(), answer))

    thread = threading.Thread(target=wait)
    thread.start()
    worker = _busiest(device)
    began = time.perf_counter()
    os.kill(worker, signal.SIGKILL)
    thread.join()
    ((at, code),) = told
    if code != "worker.died":
        raise RuntimeError(code)
    if _count(device, 5) != "[5]":
        raise RuntimeError("the new worker counts wrong")
    return at - began, time.perf_counter() - at


def _count(device: Device, number: int) -> str:
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [number]}
    answer = device.post("/v2/models/looping/infer", json.dumps({"inputs": [tensor]}).encode())
    return str(answer.json["outputs"][0]["data"]) if answer.status == 200 else answer.code


def _busiest(device: Device) -> int:
    """The worker that is at work, once there is one."""
    while True:
        before = {pid: _ticks(pid) for pid in _children(device)}
        time.sleep(0.2)
        for pid, ticks in before.items():
            if _ticks(pid) - ticks >= 10:
                return pid


def _children(device: Device) -> list[int]:
    files = Path(f"/proc/{device.pid}/task").glob("*/children")
    return [int(pid) for file in files for pid in file.read_text().split()]


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


# New versions


def swapped(device: Device, swaps: int) -> list[Row]:
    """Requests that failed while versions took over from each other."""
    registry = Registry(device.state / "models", clock=SystemClock())
    stop = threading.Event()
    asked: list[int] = []
    failed: list[str] = []

    def ask() -> None:
        request = wire(
            "swapped",
            {"x": np.ones((1, 4), np.float32)},
            load_session("onnx", onnx_model(), EngineOptions()),
        )
        client, count = connect(device.socket), 0
        while not stop.is_set():
            try:
                exchange(client, request)
            except RuntimeError as error:
                failed.append(str(error))
            count += 1
        asked.append(count)

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    slowest = max(_swap(device, registry) for _ in range(swaps))
    stop.set()
    for thread in threads:
        thread.join()
    return [
        Row(f"{swaps} new versions under load: failed requests of {sum(asked):,}",
            len(failed), "", target="0", ok=not failed),
        Row("activated until it answers, the slowest", 1000 * slowest, "ms"),
    ]  # fmt: skip


def _swap(device: Device, registry: Registry) -> float:
    before = _answering(device)
    began = time.perf_counter()
    registry.rollback("swapped")
    while _answering(device) == before:
        time.sleep(0.001)
    return time.perf_counter() - began


def _answering(device: Device) -> list[str]:
    index = device.post("/v2/repository/index", b'{"ready": true}').json
    return [model["version"] for model in index if model["name"] == "swapped"]


# Memory


def unloaded(device: Device) -> list[Row]:
    """Memory of the daemon and its workers before, with, and after a heavy model."""
    before = _memory(device)
    _ok(device.post("/v2/repository/models/heavy/load", b""))
    loaded = _memory(device)
    _ok(device.post("/v2/repository/models/heavy/unload", b""))
    time.sleep(0.5)
    left = _memory(device) - before
    size = HEAVY * HEAVY * 4 / 2**20
    return [
        Row(f"memory (PSS) with a model of {size:.0f} MiB, added", loaded - before, "MiB"),
        Row("of that left after it was unloaded", left, "MiB",
            target="≤ 10 % of it", ok=left <= 0.1 * (loaded - before)),
    ]  # fmt: skip


def _memory(device: Device) -> float:
    return sum(pss_mib(pid) for pid in (device.pid, *_children(device)))


def _ok(answer: Any) -> None:
    if answer.status != 200:
        raise RuntimeError(answer.body.decode(errors="replace"))


# Batches


def batched(device: Device, packages: Path, seconds: float) -> list[Row]:
    """Requests per second of eight clients against one caller in process without batches."""
    session = load_session("onnx", (packages / "wide" / "model.onnx").read_bytes(), EngineOptions())
    tensors = one_request(session)
    request = wire("wide", tensors, session)
    rates = []
    for _ in range(3):
        inside = _rate_inside(session, tensors, seconds / 2)
        rates.append((many_clients(request, device.socket, seconds / 2), inside))
    together, inside = sorted(rates, key=lambda pair: pair[0] / pair[1])[1]
    metrics = device.get("/metrics").body.decode()
    joined = _counted(metrics, "batched_requests") / max(_counted(metrics, "batches"), 1.0)
    return [
        Row(f"{CLIENTS} clients, batches: requests/s", together, "requests/s", "one caller in process",
            inside, together / inside, "≥ 0.8", together >= 0.8 * inside),
        Row("requests that one run answered", joined, ""),
    ]  # fmt: skip


def _counted(metrics: str, name: str) -> float:
    start = f'edge_agent_{name}_total{{model="wide"'
    return sum(float(line.split()[-1]) for line in metrics.splitlines() if line.startswith(start))


def _rate_inside(session: Session, tensors: Tensors, seconds: float) -> float:
    count, deadline = 0, time.monotonic() + seconds
    while time.monotonic() < deadline:
        session.run(tensors)
        count += 1
    return count / seconds
