"""Readings end to end on one core, by the socket and by MQTT, beside the bare model.

The daemon is pinned to one core; who sends, the broker and this program have another. A reading is
one sensor's value at one time. What is timed ends when every row is scored and on the disk.

The limit is the same session called in a loop, on the daemon's core, with the very windows that the
detector gives it for these rows in batches of `BATCH`, and nothing around it. Runs alternate. What is
compared with the limit is processor time, all threads of the daemon together, so that other programs
on the machine do not count on either side.
"""

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.pipelines.encode import encode_columns
from agent.tasks.anomaly.detector import AnomalyDetector
from agent.trust.manifest import parse_manifest
from agent.types import Array, Rows, Tensors
from bench.report import Row, Table
from tests.support.broker import Mosquitto
from tests.support.device import ROOT, Device, UnixConnection, eventually, install_models

SENSORS = tuple(f"sensor_{number}" for number in range(8))
LEARN = 1000  # rows that go before the timed ones, so that each of those ends a window
BATCH = 500  # rows of one request
CLIENTS = 3  # requests under way, so that a commit of one hides behind the scoring of another
GATEWAY_ROWS = 100  # rows of one message of a gateway that gathers
IN_FLIGHT = 100  # messages that the publisher has under way
BARE_S = 1.0  # seconds of the limit in each round, about as long as the others
START = 1_700_000_000.0
RATE, SHARE = 20_000, 0.5  # readings/s, and of the bare model
PACKAGE = ROOT / "models" / "pump-anomaly"


def run(quick: bool) -> Table:
    """Measure both ways in; `quick` with fewer rows and runs."""
    rows, runs = (20_000, 3) if quick else (100_000, 5)
    daemon_core, own_core = _cores()
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, _pinned(own_core):
        device, broker = Device(Path(scratch) / "device"), Mosquitto(Path(scratch) / "broker")
        with _running(device, broker, daemon_core):
            bare = Bare(rows, daemon_core)
            tries = [_alternate(device, broker, bare, rows, number) for number in range(runs)]
    return _table(tries, rows, runs)


@dataclass(frozen=True, slots=True)
class Rate:
    """Readings per second of the clock on the wall, and per second of processor time."""

    wall: float
    cpu: float


def _alternate(
    device: Device, broker: Mosquitto, bare: "Bare", rows: int, number: int
) -> dict[str, Rate]:
    """Each way in, and the bare model."""
    return {
        "bare": bare.rate(),
        "socket": _by_socket(device, f"socket-{number}", rows),
        "gateway": _by_mqtt(device, broker, f"gateway-{number}", rows, GATEWAY_ROWS),
        "row": _by_mqtt(device, broker, f"row-{number}", rows // 2, 1),
        "single": _alone(device, broker, f"single-{number}", rows // 50),
    }


def _table(tries: Sequence[dict[str, Rate]], rows: int, runs: int) -> Table:
    return Table(
        "Readings, one core for the daemon",
        [
            _figure(f"socket, {BATCH} rows a request", "socket", tries, SHARE),
            _figure(f"MQTT QoS 1, {GATEWAY_ROWS} rows a message", "gateway", tries, SHARE),
            _figure("MQTT QoS 1, one row a message", "row", tries, None),
            _bare_figure("MQTT QoS 1, one reading a message", "single", tries),
        ],
        [
            f"{len(SENSORS)} sensors; {rows:,} rows a run, {runs} alternating runs, medians.",
            "Every row ends windows that are scored, and is on the disk when it is counted.",
            f"Socket: {CLIENTS} clients, a stream each. MQTT: Mosquitto, {IN_FLIGHT} messages in flight.",
            "Bare model: the same windows through the same session. Ratio by processor time.",
        ],
    )


def _figure(name: str, key: str, tries: Sequence[dict[str, Rate]], share: float | None) -> Row:
    value = statistics.median(run[key].wall for run in tries)
    limit = statistics.median(run["bare"].cpu for run in tries)
    ratio = statistics.median(run[key].cpu / run["bare"].cpu for run in tries)
    target = f"{RATE:,}" + (f" and {share:.0%}" if share else "")
    ok = value >= RATE and (share is None or ratio >= share)
    return Row(name, value, "readings/s", "bare model", limit, ratio, target, ok)


def _bare_figure(name: str, key: str, tries: Sequence[dict[str, Rate]]) -> Row:
    """A figure that nothing is promised of."""
    return Row(name, statistics.median(run[key].wall for run in tries), "readings/s")


class _Watch:
    """Time on the wall and of a process's processors, from now."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu, self._wall = _cpu_s(pid), time.perf_counter()

    def rate(self, rows: int) -> Rate:
        readings = rows * len(SENSORS)
        wall, cpu = time.perf_counter() - self._wall, _cpu_s(self._pid) - self._cpu
        return Rate(readings / wall, readings / cpu)


def _cpu_s(pid: int) -> float:
    """Processor time of all threads that are there, seconds."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9


# The daemon and its surroundings.


@contextmanager
def _running(device: Device, broker: Mosquitto, core: int) -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="bench-") as scratch, ExitStack() as stack:
        device.adopt(install_models(Path(scratch), [PACKAGE]))
        broker.start()
        stack.callback(broker.kill)
        device.config = f"""
[[pipeline]]
name = "pumps"
model = "pump-anomaly"
streams = ["*"]
[[source]]
[source.link]
brokers = ["{broker.url}"]
"""
        stack.callback(device.kill)
        device.start(wrapper=["taskset", "-c", str(core)])
        eventually(lambda: device.metric("mqtt_connects_total") >= 1, what="the link")
        yield


def _cores() -> tuple[int, int]:
    """One for the daemon, another for everything else if there is another."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[0], cores[-1]


@contextmanager
def _pinned(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# The recording.


def _recording(stream: str, first: int, count: int) -> Rows:
    """Healthy noise around ten, one row a second, the same in every run."""
    values = 10 + np.random.default_rng(first).normal(size=(count, len(SENSORS))).round(4)
    return Rows(stream, SENSORS, START + np.arange(first, first + count, dtype=np.float64), values)


def _cut(rows: Rows, size: int) -> list[Rows]:
    return [
        Rows(rows.stream, rows.sensors, rows.time[at : at + size], rows.values[at : at + size])
        for at in range(0, len(rows), size)
    ]


# The limit.


class Bare:
    """The model alone on windows that a detector made of the recording."""

    def __init__(self, rows: int, core: int) -> None:
        manifest = parse_manifest((PACKAGE / "model.toml").read_bytes())
        self._session: Session = load_session(
            "onnx", (PACKAGE / "model.onnx").read_bytes(), EngineOptions(threads=1)
        )
        self._core = core
        self._windows: list[Tensors] = []
        detector = AnomalyDetector(self, manifest)
        detector.push(_recording("p", 0, LEARN))
        self._windows.clear()
        self._rows = min(rows, 20_000)
        for part in _cut(_recording("p", LEARN, self._rows), BATCH):
            detector.push(part)

    def run(self, tensors: Tensors, /) -> dict[str, Array]:
        """What the detector calls: keeps the windows."""
        self._windows.append({name: array.copy() for name, array in tensors.items()})
        return self._session.run(tensors)

    def rate(self) -> Rate:
        """The windows again and again."""
        with _pinned(self._core):
            watch, began, rounds = _Watch(os.getpid()), time.perf_counter(), 0
            while time.perf_counter() - began < BARE_S:
                for tensors in self._windows:
                    self._session.run(tensors)
                rounds += 1
            return watch.rate(rounds * self._rows)


# The ways in.


def _by_socket(device: Device, stream: str, count: int) -> Rate:
    shares = [_bodies(f"{stream}-{client}", count // CLIENTS) for client in range(CLIENTS)]
    for client in range(CLIENTS):
        _learned(device, f"{stream}-{client}")
    threads = [threading.Thread(target=_post, args=(device, bodies)) for bodies in shares]
    watch = _Watch(device.pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return watch.rate(count // CLIENTS * CLIENTS)


def _bodies(stream: str, count: int) -> list[bytes]:
    return [encode_columns(part) for part in _cut(_recording(stream, LEARN, count), BATCH)]


def _learned(device: Device, stream: str) -> None:
    """Let the stream's healthy past be known, outside the timed part."""
    _post(device, [encode_columns(_recording(stream, 0, LEARN))])


def _post(device: Device, bodies: Sequence[bytes]) -> None:
    with _connection(device) as connection:
        for body in bodies:
            _request(connection, body)


@contextmanager
def _connection(device: Device) -> Iterator[UnixConnection]:
    connection = UnixConnection(device.socket)
    try:
        yield connection
    finally:
        connection.close()


def _request(connection: UnixConnection, body: bytes) -> None:
    connection.request("POST", "/api/readings", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    assert response.status == 200, answer


def _by_mqtt(device: Device, broker: Mosquitto, stream: str, count: int, size: int) -> Rate:
    _learned(device, stream)
    payloads = [_payload(part) for part in _cut(_recording(stream, LEARN, count), size)]
    target = device.metric("rows_total") + count
    with _client(broker) as client:
        watch = _Watch(device.pid)
        for payload in payloads:
            last = client.publish(f"sensors/{stream}", payload, qos=1)
        last.wait_for_publish(120)
        _until(device, target)
        return watch.rate(count)


def _alone(device: Device, broker: Mosquitto, stream: str, count: int) -> Rate:
    """Each sensor publishes for itself; rows are made by the daemon."""
    _learned(device, stream)
    rows = _recording(stream, LEARN, count)
    target = device.metric("rows_total") + count - 2  # the last rows wait for stragglers
    with _client(broker) as client:
        watch = _Watch(device.pid)
        for at, row in zip(rows.time.tolist(), rows.values.tolist(), strict=True):
            for sensor, value in zip(SENSORS, row, strict=True):
                payload = json.dumps({"time": at, "value": value})
                last = client.publish(f"sensors/{stream}/{sensor}", payload, qos=1)
        last.wait_for_publish(120)
        _until(device, target)
        return watch.rate(count)


def _until(device: Device, rows: float) -> None:
    while device.metric("rows_total") < rows:
        time.sleep(0.02)


def _payload(rows: Rows) -> bytes:
    """As sensors and gateways write it: one row as an object, several as columns."""
    if len(rows) > 1:
        return encode_columns(rows)
    values: dict[str, Any] = dict(zip(rows.sensors, rows.values[0].tolist(), strict=True))
    return json.dumps({"time": float(rows.time[0]), **values}).encode()


@contextmanager
def _client(broker: Mosquitto) -> Iterator[paho.Client]:
    """Publishes with a window; connected."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="publisher")
    client.max_inflight_messages_set(IN_FLIGHT)
    up = threading.Event()
    client.on_connect = lambda *_: up.set()
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    up.wait()
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()
