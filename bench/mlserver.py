"""Beside MLServer: the same ONNX model, the same JSON requests, HTTP, one client and eight.

MLServer is in an environment of its own, named by the variable EDGE_AGENT_MLSERVER (its Python), since
it pins other versions of what the agent uses:

    python3 -m venv /tmp/mlserver
    /tmp/mlserver/bin/pip install mlserver onnxruntime==1.28.0
    EDGE_AGENT_MLSERVER=/tmp/mlserver/bin/python python -m bench mlserver

It listens on TCP only and takes JSON only; the agent is asked so too, and by the Unix socket, which is
what it is for, as JSON and as bytes. MLServer runs the model in its own process (`parallel_workers` 0),
which is faster than its default.
"""

import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from agent.api.callers import Role
from agent.api.tokens import issue
from bench.inference import CLIENTS, Load, install, open_session, timed
from bench.report import Row, Table

TIMES = 10  # lower, and higher, than the peer's
PEER = "MLServer"
START_S = 60.0  # longest wait for a server, seconds

MODEL = Path(__file__).resolve().parent.parent / "models" / "pump-anomaly" / "model.onnx"
RUNTIME = Path(__file__).with_name("_mlserver_runtime.py")

Place = tuple[int | Path, bytes]  # port or socket, and the request to send there


def run(quick: bool) -> Table:
    """Measure both in turns; `quick` with fewer requests."""
    python = os.environ.get("EDGE_AGENT_MLSERVER")
    if not python:
        note = "Not measured: EDGE_AGENT_MLSERVER names no Python that has MLServer."
        return Table("Beside MLServer", [], [note])
    rounds, batch, seconds = (5, 30, 1.5) if quick else (30, 100, 5.0)
    with (
        tempfile.TemporaryDirectory(prefix="bench-mlserver-") as directory,
        _servers(Path(directory), python) as places,
    ):
        times = _one_client(places, rounds, batch)
        rates = {name: _many_clients(place, seconds) for name, place in places.items()}
    ours = [name for name in places if name != PEER]
    p50 = {name: 1e6 * float(np.quantile(taken, 0.5)) for name, taken in times.items()}
    return Table(
        "Beside MLServer",
        [
            *(_row(f"{name}, 1 client: p50", "µs", p50[name], p50[PEER]) for name in ours),
            *(
                _row(f"{name}, {CLIENTS} clients", "requests/s", rates[name], rates[PEER])
                for name in ours
            ),
        ],
        [f"{MODEL.parent.name}; {rounds} alternating rounds of {batch} requests."],
    )


def _row(name: str, unit: str, ours: float, theirs: float) -> Row:
    """One of the agent's figures beside the peer's; TCP, which is not its own way, promises nothing."""
    times = theirs / ours if unit == "µs" else ours / theirs
    target = f"{TIMES} times {'lower' if unit == 'µs' else 'more'}"
    promised = "TCP" not in name
    said = (target, times >= TIMES) if promised else ("", None)
    return Row(name, ours, unit, "MLServer", theirs, ours / theirs, *said)


# Who answers


@contextmanager
def _servers(directory: Path, python: str) -> Iterator[dict[str, Place]]:
    """Both, each with its places and what to send there."""
    load = Load.of(MODEL)
    body = load.json.partition(b"\r\n\r\n")[2]
    ports = [_free_port() for _ in range(4)]
    token, entry = issue(Role.APP)
    commands = [
        _agent(directory / "agent", ports[0], entry),
        _mlserver(directory / "mlserver", ports[1:], python),
    ]
    with (directory / "log").open("wb") as log:
        running = [subprocess.Popen(c, cwd=d, stdout=log, stderr=log) for c, d in commands]
        places = {
            "JSON, TCP": (ports[0], _request(body, f"Authorization: Bearer {token}\r\n")),
            "JSON, Unix socket": (directory / "agent" / "agent.sock", load.json),
            "bytes, Unix socket": (directory / "agent" / "agent.sock", load.binary),
            PEER: (ports[1], _request(body, "")),
        }
        try:
            for place in places.values():
                _wait(place)
            yield places
        finally:
            for process in running:
                process.terminate()
                process.wait()


def _agent(directory: Path, port: int, entry: str) -> tuple[list[str], Path]:
    directory.mkdir()
    install(MODEL, open_session(MODEL), directory)
    config = directory / "edge-agent.toml"
    more = f'tcp = "127.0.0.1:{port}"\ntokens = ["{entry}"]\nmax_caller_rate = 1e6\n'
    config.write_text(config.read_text().replace("[api]\n", f"[api]\n{more}"))
    return [shutil.which("edge-agent") or "edge-agent", "run", "--config", str(config)], directory


def _mlserver(directory: Path, ports: list[int], python: str) -> tuple[list[str], Path]:
    directory.mkdir()
    names = ("http_port", "grpc_port", "metrics_port")
    settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False}
    settings |= dict(zip(names, ports, strict=True))
    model = {
        "name": "bench",
        "implementation": "runtime.OnnxModel",
        "parameters": {"uri": str(MODEL)},
    }
    (directory / "settings.json").write_text(json.dumps(settings))
    (directory / "model-settings.json").write_text(json.dumps(model))
    shutil.copy(RUNTIME, directory / "runtime.py")
    return [str(Path(python).parent / "mlserver"), "start", str(directory)], directory


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _request(body: bytes, header: str) -> bytes:
    head = (
        f"POST /v2/models/bench/infer HTTP/1.1\r\nHost: localhost\r\n{header}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


# Who asks


def _wait(place: Place) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            with _connect(place) as client:
                _exchange(client, place[1])
                return
        except (OSError, RuntimeError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _connect(place: Place) -> socket.socket:
    if isinstance(place[0], Path):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(place[0]))
        return client
    client = socket.create_connection(("127.0.0.1", place[0]))
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def _exchange(client: socket.socket, request: bytes) -> None:
    """One request and its whole answer."""
    client.sendall(request)
    data = client.recv(65536)
    while (end := data.find(b"\r\n\r\n")) < 0:
        if not (more := client.recv(65536)):
            raise ConnectionResetError
        data += more
    if not data.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(data.decode(errors="replace"))
    length = int(data[:end].lower().split(b"content-length: ")[1].split(b"\r\n", 1)[0])
    while len(data) < end + 4 + length:
        data += client.recv(65536)


def _one_client(places: dict[str, Place], rounds: int, batch: int) -> dict[str, list[float]]:
    clients = {name: _connect(place) for name, place in places.items()}
    times: dict[str, list[float]] = {name: [] for name in places}
    for number in range(rounds + 1):
        for name, (_, request) in places.items():
            ask = partial(_exchange, clients[name], request)
            measured = [timed(ask) for _ in range(batch)]
            times[name] += measured if number else []
    return times


def _many_clients(place: Place, seconds: float) -> float:
    """Requests per second of several processes that each ask again as soon as they are answered."""
    with multiprocessing.get_context("fork").Pool(CLIENTS) as pool:
        return sum(pool.starmap(_ask_for, [(place, seconds)] * CLIENTS, 1)) / seconds


def _ask_for(place: Place, seconds: float) -> int:
    count, deadline = 0, time.monotonic() + seconds
    with _connect(place) as client:
        while time.monotonic() < deadline:
            _exchange(client, place[1])
            count += 1
    return count
