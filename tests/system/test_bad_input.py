"""What must not end a daemon: a clear error to whoever caused it, a counter, nothing lost, alive."""

import contextlib
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import Mosquitto
from tests.support.device import ROOT, Device, UnixConnection, eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy, shaken
from tests.system.test_durability import account, collecting, drained, source
from tests.system.test_life import sync

YEAR_S = 365 * 86_400
MODEL = "/v2/models/pump-anomaly"


def works(device: Device, stream: str = "after") -> None:
    """The daemon is alive and does its job."""
    assert device.process is not None
    assert device.process.poll() is None, device.log
    start = 0
    answer = device.readings(stream, healthy(50, start))
    assert answer.status == 200, answer.body
    assert answer.json["accepted"] == 50
    assert "Traceback" not in device.log, device.log


# Models and their packages.


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the shipped model's package, to be spoilt."""
    return Path(shutil.copytree(ROOT / "models" / "pump-anomaly", tmp_path / "pump-anomaly"))


def installed(device: Device, package: Path, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    """Sign the package as it is, and let the device install it."""
    from tools.fleet.repository import Repository

    device.write_config()
    repository = Repository.create(tmp_path / "repository", tmp_path / "keys")
    repository.publish(package)
    root = tmp_path / "root.json"
    root.write_bytes(repository.root_bytes())
    options = ("models", "--config", str(device.config_path))
    device.run(*options, "provision", str(root))
    return device.run(
        *options, "install", "pump-anomaly", "--from", str(tmp_path / "repository"), check=False
    )


def model_file(package: Path) -> Path:
    return next(package.glob("*.onnx"))


def test_a_truncated_model_on_the_disk_is_refused_at_load(make_device: MakeDevice) -> None:
    """The daemon starts, says what is wrong to whoever sends readings, and loses none of them."""
    device = make_device()
    whole = model_file(ROOT / "models" / "pump-anomaly").read_bytes()
    (stored,) = (p for p in device.state.rglob("*") if p.is_file() and p.read_bytes() == whole)
    stored.chmod(0o644)
    stored.write_bytes(whole[: len(whole) // 2])
    device.start(wait=False)
    eventually(device.socket.exists, what="the socket")
    answer = device.readings("pump-1", healthy(10))
    assert (answer.status, answer.code) == (503, "agent.not_ready")
    assert "trust.altered" in answer.json["message"]
    assert device.get("/readyz").status == 503
    assert device.get("/healthz").status == 200


def test_a_truncated_model_that_was_signed_is_not_activated(
    make_device: MakeDevice, package: Path, tmp_path: Path
) -> None:
    path = model_file(package)
    path.write_bytes(path.read_bytes()[:1000])
    resign(package)
    device = make_device(models=None)
    done = installed(device, package, tmp_path)
    assert done.returncode == 2, done.stderr
    assert "model.invalid" in done.stderr
    assert "Traceback" not in done.stderr
    listed = device.run("models", "--config", str(device.config_path), "--json")
    assert json.loads(listed.stdout) == []


def resign(package: Path) -> None:
    """Write the files' present sizes and digests into the manifest."""
    import hashlib
    import re

    manifest = package / "model.toml"
    text = manifest.read_text()
    for path in filter(Path.is_file, package.iterdir()):
        data = path.read_bytes()
        pattern = rf'(path = "{re.escape(path.name)}".*?sha256 = ")[0-9a-f]+(".*?size = )\d+'
        digest = hashlib.sha256(data).hexdigest()
        text = re.sub(pattern, rf"\g<1>{digest}\g<2>{len(data)}", text, count=1, flags=re.DOTALL)
    manifest.write_text(text)


def test_a_manifest_with_an_unknown_key_is_refused_with_its_path(
    make_device: MakeDevice, package: Path, tmp_path: Path
) -> None:
    manifest = package / "model.toml"
    manifest.write_text("colour = 3\n" + manifest.read_text())
    from agent.errors import BadManifest

    with pytest.raises(BadManifest, match="colour"):  # the publisher hears it first
        installed(make_device(models=None), package, tmp_path)


# Requests.


@pytest.fixture
def device(make_device: MakeDevice) -> Device:
    return make_device().start()


def tensor(device: Device) -> dict[str, Any]:
    """A valid inference request of zeros."""
    spec = device.get(MODEL).json["inputs"][0]
    shape = [1 if size == -1 else size for size in spec["shape"]]
    data = [0] * int(np.prod(shape))
    return {"name": spec["name"], "datatype": spec["datatype"], "shape": shape, "data": data}


def test_tensors_that_do_not_fit_are_refused_by_name(device: Device) -> None:
    good = tensor(device)
    wrong = [
        {**good, "shape": [*good["shape"][:-1], good["shape"][-1] + 1]},
        {**good, "shape": [*good["shape"], 1]},
        {**good, "datatype": "FP64"},
        {**good, "datatype": "NONSENSE"},
        {**good, "data": good["data"][:-1]},
        {**good, "data": ["a"] * len(good["data"])},
        {**good, "data": [1000] * len(good["data"])},
        {**good, "name": "nobody"},
    ]
    for request in wrong:
        answer = device.post(f"{MODEL}/infer", json.dumps({"inputs": [request]}).encode())
        assert answer.status == 400, (request["shape"], answer.body)
        assert good["name"] in answer.body.decode() or request["name"] in answer.body.decode()
    assert device.metric("api_requests_total", 'status="400"') == len(wrong)
    assert device.post(f"{MODEL}/infer", json.dumps({"inputs": [good]}).encode()).status == 200
    works(device)


@pytest.mark.parametrize("path", ["/api/readings?stream=a", f"{MODEL}/infer"])
@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"a": 1e99999}', b"null", b'{"inputs": "x"}']
)
def test_malformed_json_is_refused(device: Device, path: str, body: bytes) -> None:
    answer = device.post(path, body)
    assert answer.status == 400, answer.body
    assert answer.code.startswith("request.")
    assert device.metric("api_requests_total", 'status="400"') == 1
    works(device)


@pytest.mark.parametrize("path", ["/api/readings?stream=a", f"{MODEL}/infer"])
def test_a_body_of_100_mb_is_refused_without_being_kept(device: Device, path: str) -> None:
    before = peak_mib(device)
    answer = device.post(path, b" " * 100_000_000)
    assert answer.status == 413, answer.body
    assert answer.code == "limit.size"
    assert device.metric("api_refusals_total", 'status="413"') == 1
    assert peak_mib(device) < before + 80
    works(device)


def test_a_body_of_100_mb_that_hides_its_length_is_refused(device: Device) -> None:
    """Sent in chunks; the connection may be closed on a client that goes on sending."""
    connection = UnixConnection(device.socket)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    head = b"POST /api/readings?stream=a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    connection.connect()
    received = b""
    with contextlib.suppress(OSError):
        connection.sock.sendall(head)
        for _ in range(100):
            connection.sock.sendall(chunk)
    with contextlib.suppress(OSError):
        received = connection.sock.recv(65536)
    connection.close()
    assert b" 413 " in received.split(b"\r\n")[0] or received == b""
    assert peak_mib(device) < 400
    works(device)


def peak_mib(device: Device) -> float:
    """The most memory that the daemon has ever held."""
    status = Path(f"/proc/{device.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


# MQTT.


def test_random_bytes_on_every_topic_are_counted_and_passed(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    device = make_device(PIPELINE + source(broker)).start()
    eventually(lambda: device.metric("mqtt_connects_total") >= 1, what="the link")
    chance = random.Random(3)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="noise")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for number in range(500):
        topic = chance.choice(
            ["sensors/noise", "sensors/noise/flow", "sensors/a/b/c/d", "sensors/x/"]
        )
        payload = chance.randbytes(chance.randrange(0, 300)) + b"\x00\xff"
        client.publish(topic, payload, qos=number % 2)
    for row in healthy(20):
        last = client.publish("sensors/pump-1", json.dumps(row), qos=1)
    last.wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    eventually(lambda: device.metric("rows_total") >= 20, what="the good rows")
    assert device.metric("readings_refused_total") == 500
    works(device)


def test_a_message_over_the_bound_does_not_stop_those_behind_it(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    """The broker is told the bound, so that it keeps back what is over it."""
    device = make_device(PIPELINE + source(broker)).start()
    eventually(lambda: device.metric("mqtt_connects_total") >= 1, what="the link")
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="big")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for row in healthy(10):
        client.publish("sensors/big", b" " * 10_000_000, qos=1)
        last = client.publish("sensors/pump-1", json.dumps(row), qos=1)
    last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()
    eventually(lambda: device.metric("rows_total") >= 10, what="the good rows")
    assert peak_mib(device) < 250
    works(device)


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Accepts connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        while True:
            try:
                kept.append(listener.accept()[0])
            except OSError:
                return

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1]
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    for connection in kept:
        connection.close()


def test_a_broker_that_accepts_and_never_answers(make_device: MakeDevice, silent_port: int) -> None:
    """The cloud's and the sensors': the device starts, works, queues, counts and stops in time."""
    link = f"""
        brokers = ["mqtt://127.0.0.1:{silent_port}"]
        connect_timeout_s = 0.3
        backoff_min_s = 0.05
        backoff_max_s = 0.1
    """
    config = f"[sync]{link}[[source]]\n[source.link]{link}"
    device = make_device(PIPELINE + config).start()
    device.readings("pump-1", healthy(1000))
    device.readings("pump-1", shaken(1000, 60))
    eventually(lambda: device.metric("mqtt_failures_total") >= 4, what="the failures")
    books = account(device)
    assert sum(enqueued for enqueued, _, _ in books.values()) > 10
    assert all(delivered == lost == 0 for _, delivered, lost in books.values())
    works(device)
    assert device.stop()[1] < 10


# The disk.

TMPFS = 'mount -t tmpfs -o size=12m tmpfs "$0" && exec "$@"'


def can_mount() -> bool:
    done = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not can_mount(), reason="needs user namespaces")
def test_a_full_disk_refuses_loses_nothing_and_recovers(
    make_device: MakeDevice, broker: Mosquitto, pump_models: Path
) -> None:
    """State on a small file system that is filled up; what was acknowledged is still there after."""
    config = PIPELINE.replace('name = "pumps"', 'name = "pumps"\nsummary_every_s = 1.0')
    device = make_device(config + sync(broker), models=None)
    device.state.mkdir(parents=True)
    copy = f'mount -t tmpfs -o size=12m tmpfs "$0" && cp -r {pump_models} "$0"/models && exec "$@"'
    device.start(wrapper=["unshare", "-rm", "sh", "-c", copy, str(device.state)])
    inside = Path(f"/proc/{device.pid}/root{device.state}")
    rows = healthy(1000)
    assert device.readings("pump-1", rows).status == 200
    with (inside / "ballast").open("wb") as ballast:
        fill(ballast.fileno())
    taken = 1000
    refusal = None
    for start in range(1000, 200_000, 500):
        answer = device.readings("pump-1", healthy(500, start))
        if answer.status != 200:
            refusal = answer
            break
        taken += 500
    assert refusal is not None
    assert (refusal.status, refusal.code) == (503, "storage.failed"), refusal.body
    assert device.metric("api_requests_total", 'status="503"') == 1
    (inside / "ballast").unlink()
    assert device.readings("pump-1", healthy(500, taken)).json["accepted"] == 500
    (stream,) = device.get("/api/status").json["streams"]
    assert stream["rows"] - sum(stream["dropped"].values()) == taken + 500
    works(device)


def fill(descriptor: int) -> None:
    """Write until nothing more fits."""
    for size in (1 << 20, 4096, 1):
        try:
            while True:
                os.write(descriptor, b"\0" * size)
        except OSError:
            continue


# The clock.


def test_a_clock_that_jumps_a_year_and_back(
    make_device: MakeDevice, broker: Mosquitto, tmp_path: Path
) -> None:
    """Wall time is data only: rows without a time are scored, messages go, nothing expires."""
    device = make_device(PIPELINE + sync(broker))
    offset = tmp_path / "offset"
    offset.write_text("0")
    script = ROOT / "tests" / "support" / "jumping_daemon.py"
    device.start(program=[sys.executable, str(script), str(device.config_path), str(offset)])
    with collecting(broker) as (receiver, _):
        device.readings("pump-1", healthy(1000))
        for jump in (YEAR_S, 0, -YEAR_S, 0):
            offset.write_text(str(jump))
            assert device.post("/api/readings?stream=now", b'{"flow": 1.0}').status == 200
            assert device.readings("pump-1", healthy(100, 1000)).status == 200
            assert device.get("/readyz").status == 200
        device.readings("pump-1", shaken(1100, 60))
        eventually(lambda: receiver.ledger.by_class.get("escalation"), what="the warning")
        eventually(lambda: drained(device), what="the outbox drained")
    assert all(lost == 0 for _, _, lost in account(device).values())
    assert device.stop()[0] == 0


def test_a_sensor_whose_clock_jumps_a_year_is_watched_again(make_device: MakeDevice) -> None:
    """Rows of next year, then right ones: the stream is not deaf until next year."""
    device = make_device().start()
    device.readings("pump-1", healthy(1000))
    device.readings("pump-1", healthy(5, 1000 + YEAR_S))
    windows = sum(
        device.readings("pump-1", healthy(100, start)).json["windows"]
        for start in range(1000, 3000, 100)
    )
    assert windows > 500
    works(device)
