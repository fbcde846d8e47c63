"""A daemon whose models crash, hang and eat memory goes on answering; what is activated takes over."""

import io
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.support.device import Answer, Device, eventually, install_models
from tests.support.hostile_models import greedy_model, looping_model
from tests.support.onnx_model import onnx_model
from tests.support.packages import write_package
from tests.system.conftest import MakeDevice

CONFIG = """
[models]
preload = ["looping", "greedy", "negator"]
[serving]
isolated = ["looping", "greedy"]
worker_timeout_s = 1.5
"""
FOR_EVER = 2**62


def golden() -> dict[str, bytes]:
    buffer = io.BytesIO()
    three = np.array([3], np.int64)
    np.savez(buffer, **{"random/in/x": three, "random/out/y": three})
    return {"golden.npz": buffer.getvalue()}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that can misbehave, and one that does not; of that, two versions are published."""
    path = tmp_path_factory.mktemp("isolation")
    packages = [
        write_package(path / "looping", looping_model(), name="looping", golden=golden()),
        write_package(path / "greedy", greedy_model(), name="greedy", golden=golden()),
        write_package(path / "negator", onnx_model(shape=(-1, 4)), name="negator"),
    ]
    return install_models(path / "device", packages)


def ask(device: Device, model: str, number: int) -> Answer:
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [number]}
    return device.post(f"/v2/models/{model}/infer", json.dumps({"inputs": [tensor]}).encode())


def negate(device: Device) -> Answer:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}
    return device.post("/v2/models/negator/infer", json.dumps({"inputs": [tensor]}).encode())


def workers(device: Device) -> list[int]:
    """Processes that the daemon has started."""
    children = Path(f"/proc/{device.pid}/task").glob("*/children")
    return [int(pid) for file in children for pid in file.read_text().split()]


def test_a_hang_a_crash_and_greed_are_their_models_own(
    make_device: MakeDevice, models: Path
) -> None:
    device = make_device(CONFIG, models=models).start()
    assert len(workers(device)) == 2
    assert ask(device, "looping", 5).json["outputs"][0]["data"] == [5]
    slowest = 0.0
    with ThreadPoolExecutor(3) as threads:
        hanging = [threads.submit(ask, device, "looping", FOR_EVER) for _ in range(3)]
        while not all(request.done() for request in hanging):
            began = time.monotonic()
            assert negate(device).json["outputs"][0]["data"] == [-1, -2, -3, -4]
            assert ask(device, "greedy", 9).json["outputs"][0]["data"] == [9]
            slowest = max(slowest, time.monotonic() - began)
        answers = [request.result() for request in hanging]
    assert "limit.time" in {answer.code for answer in answers}
    assert {(a.status, a.code) for a in answers} <= {(504, "limit.time"), (503, "worker.died")}
    assert slowest < 1.0, "far less than the hang took"
    assert ask(device, "looping", 6).json["outputs"][0]["data"] == [6]

    answer = ask(device, "greedy", 2**30)
    assert (answer.status, answer.code[:7]) in {(503, "engine."), (503, "worker.")}
    assert ask(device, "greedy", 7).json["outputs"][0]["data"] == [7]


def test_a_killed_worker_is_told_at_once_and_replaced(
    make_device: MakeDevice, models: Path
) -> None:
    config = CONFIG.replace("1.5", "60").replace(', "greedy"', "")
    device = make_device(config, models=models).start()
    (worker,) = workers(device)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(ask, device, "looping", FOR_EVER)
        threading.Event().wait(0.3)  # until it is under way
        os.kill(worker, signal.SIGSEGV)
        answer = waiting.result(30)
    assert (answer.status, answer.code) == (503, "worker.died")
    assert "Retry-After" in answer.headers
    assert ask(device, "looping", 8).json["outputs"][0]["data"] == [8]
    assert "was ended by SIGSEGV" in device.log
    assert "Traceback" not in device.log
    assert device.metric("worker_ends_total") == 1
    device.post("/v2/repository/models/looping/unload", b"{}")
    assert device.metric("worker_ends_total") == 1  # it never goes back
    assert ask(device, "looping", 8).json["outputs"][0]["data"] == [8]
    (worker,) = workers(device)
    assert device.stop()[0] == 0
    assert not Path(f"/proc/{worker}").exists()


def test_no_worker_outlives_a_killed_daemon(make_device: MakeDevice, models: Path) -> None:
    device = make_device(CONFIG, models=models).start()
    started = workers(device)
    os.kill(device.pid, signal.SIGKILL)
    eventually(
        lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in started), what="their end"
    )


def test_what_does_not_fit_into_the_budget_is_refused_by_how_much(
    make_device: MakeDevice, models: Path
) -> None:
    config = '[models]\npreload = ["looping"]\n[serving]\nmemory_mib = 100\n'
    device = make_device(config, models=models).start()
    answer = negate(device)
    assert (answer.status, answer.code) == (507, "limit.memory")
    assert "28 MiB more than the budget of 100 MiB" in answer.json["message"]


def test_versions_take_over_under_load_without_a_failed_request(
    make_device: MakeDevice, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("swap")  # short, since a socket's path is
    packages = [
        write_package(path / v / "negator", onnx_model(op), name="negator", version=v)
        for v, op in (("1.0.0", "Neg"), ("1.1.0", "Abs"))
    ]
    installed = install_models(path / "device", packages)
    device = make_device('[models]\npreload = ["negator"]\n', models=installed).start()
    models = ("models", "--config", str(device.config_path))
    source = ("--from", str(path / "device" / "repository"))
    device.run(*models, "install", "negator", "--version", "1.0.0", *source)
    statuses: list[int] = []
    stop = threading.Event()

    def load() -> None:
        while not stop.is_set():
            statuses.append(negate(device).status)

    threads = [threading.Thread(target=load) for _ in range(2)]
    for thread in threads:
        thread.start()
    for expected in (["1.1.0"], ["1.0.0"], ["1.1.0"]):
        device.run(*models, "rollback", "negator")
        eventually(lambda e=expected: answering(device) == e, what=f"{expected}")  # type: ignore[misc]
    stop.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}


def answering(device: Device) -> list[str]:
    """The version that is loaded."""
    index = device.post("/v2/repository/index", b'{"ready": true}').json
    return [model["version"] for model in index]
