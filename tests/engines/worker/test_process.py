"""A worker answers as the program would in the daemon, and its end is its own."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.engines.worker.limits import BASE_MIB, Limits
from agent.errors import (
    AgentError,
    BadTensor,
    EngineFailed,
    NotReady,
    TooMany,
    TooSlow,
    WorkerDied,
)
from tests.engines.worker.conftest import Start
from tests.support.programs import HERE

TENSORS = {
    "floats": np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4),
    "halves": np.array([1.5, -2.0], np.float16),
    "truths": np.array([True, False, True]),
    "none": np.zeros((0, 5), np.int64),
    "one": np.array(7, np.uint8),
    "words": np.array([[b"a", b""], [b"\xff\0", b"word"]], object),
    "turned": np.arange(6, dtype=np.int16).reshape(2, 3).T,
}


def test_tensors_and_payload_arrive_as_they_were_sent(start: Start) -> None:
    reply = start().call("echo", {"text": "ü", "numbers": [1, 2.5, None]}, TENSORS)
    assert reply.payload == {"text": "ü", "numbers": [1, 2.5, None]}
    assert list(reply.tensors) == list(TENSORS)
    for name, expected in TENSORS.items():
        found = reply.tensors[name]
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", [1, 2**16, 2**16 + 1, 5 * 2**20])
def test_messages_of_every_size_pass(start: Start, size: int) -> None:
    worker = start()
    tensor = np.arange(size, dtype=np.uint8)
    for _ in range(2):  # the second time the memory is there already
        reply = worker.call("echo", b"x" * size, {"x": tensor})
        assert reply.payload == b"x" * size
        np.testing.assert_array_equal(reply.tensors["x"], tensor)
    assert worker.call("echo", 1).payload == 1


def test_an_answer_belongs_to_the_caller(start: Start) -> None:
    worker = start()
    first = worker.call("echo", None, {"x": np.ones(4)}).tensors["x"]
    worker.call("echo", None, {"x": np.zeros(4)})
    np.testing.assert_array_equal(first, np.ones(4))
    first[0] = 2


def test_the_files_are_those_of_the_package_and_on_no_disk(start: Start) -> None:
    files = {"model.onnx": b"weights" * 100_000, "data/vocabulary.json": b"{}"}
    worker = start(files)
    for name, data in files.items():
        assert worker.call("file", name).payload == data


def test_options_and_description_of_every_size_pass(start: Start) -> None:
    options = {"labels": [f"label {number}" for number in range(20_000)]}
    assert start(options=options).description["options"] == options


def test_what_is_the_daemons_own_is_not_handed_on(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_AGENT_SYNC__PASSWORD", "secret")
    worker = start(options={"threads": 2})
    assert worker.description["options"] == {"threads": 2}
    names = set(worker.description["environment"])
    assert not any(name.startswith("EDGE_AGENT_") for name in names)
    assert "ORT_DISABLE_TELEMETRY" in names


# What goes wrong


def test_an_error_of_the_program_arrives_as_it_was_raised(start: Start) -> None:
    worker = start()
    with pytest.raises(BadTensor) as caught:
        worker.call("refuse")
    assert caught.value.to_dict() == {
        "code": "request.tensor",
        "message": "expected FP32",
        "where": "x",
        "hint": "Send FP32",
    }
    with pytest.raises(EngineFailed, match="ZeroDivisionError: a mistake"):
        worker.call("stumble")
    with pytest.raises(EngineFailed):
        worker.call("unspeakable")
    assert worker.call("echo", "still here").payload == "still here"


def test_a_segfault_is_told_at_once_to_everybody_and_ends_the_worker_only(start: Start) -> None:
    worker, other = start(), start()
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(worker.call, "sleep", 60) for _ in range(2)]
        running = threads.submit(other.call, "sleep", 0.5)
        began = time.monotonic()
        with pytest.raises(WorkerDied, match="SIGSEGV"):
            worker.call("segfault")
        for call in waiting:
            with pytest.raises(WorkerDied):
                call.result(10)
        assert time.monotonic() - began < 10
        running.result(10)
    assert worker.ended
    with pytest.raises(WorkerDied):
        worker.call("echo")


def test_a_crash_while_loading_is_told(start: Start) -> None:
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        start(options="segfault")


def test_a_hang_ends_the_worker(start: Start) -> None:
    worker = start()
    with pytest.raises(TooSlow, match=r"no answer within 0\.2 s"):
        worker.call("sleep", 60, patience_s=0.2)
    assert worker.ended


def test_memory_beyond_the_limit_is_refused_to_the_model_alone(start: Start) -> None:
    worker = start(limits=Limits(memory_mib=BASE_MIB))
    with pytest.raises(AgentError) as caught:
        worker.call("eat", 2 * BASE_MIB)
    assert caught.value.code in {"engine.failed", "worker.died"}
    if not worker.ended:
        assert worker.call("eat", 8).payload == 8 * 2**20


def test_a_worker_that_is_closed_takes_nothing_more(start: Start) -> None:
    worker = start()
    worker.close()
    worker.close()
    with pytest.raises(NotReady):
        worker.call("echo")


# Several at once


def test_calls_run_beside_each_other(start: Start) -> None:
    worker = start(lanes=3)
    barrier = threading.Barrier(3)

    def call(number: int) -> int:
        barrier.wait()
        for _ in range(50):
            tensor = np.full(1000, number, np.int32)
            reply = worker.call("echo", number, {"x": tensor})
            assert reply.payload == number
            np.testing.assert_array_equal(reply.tensors["x"], tensor)
        return number

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(call, range(3))) == [0, 1, 2]


def test_more_calls_than_lanes_wait_and_then_are_refused(start: Start) -> None:
    worker = start(lanes=1)
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(worker.call, "sleep", 0.3)
        while not worker._lanes:
            time.sleep(0.001)
        assert threads.submit(worker.call, "echo", 1).result(10).payload == 1
        first.result(10)
        threads.submit(worker.call, "sleep", 2)
        time.sleep(0.05)
        with pytest.raises(TooMany):
            worker.call("echo", patience_s=0.05)


# Streams


def test_a_stream_has_pieces_and_an_end(start: Start) -> None:
    worker = start(lanes=1)
    with worker.stream("numbers", 5) as numbers:
        assert list(numbers) == [0, 1, 2, 3, 4]
        assert list(numbers) == []
    assert worker.call("echo", 1).payload == 1


def test_a_stream_that_is_closed_early_frees_its_lane(start: Start) -> None:
    worker = start(lanes=1)
    for _ in range(5):
        with worker.stream("numbers", 10**9) as numbers:
            assert next(numbers) == 0
    assert worker.call("echo", 1).payload == 1


def test_a_stream_is_cancelled_from_another_thread(start: Start) -> None:
    worker = start(lanes=1)
    with worker.stream("numbers", 10**9) as numbers:
        threading.Timer(0.05, numbers.cancel).start()
        assert len(list(numbers)) < 10**9
    assert worker.call("echo", 1).payload == 1


def test_a_stream_that_fails_says_why(start: Start) -> None:
    worker = start(lanes=1)
    found: list[Any] = []
    with pytest.raises(BadTensor, match="too few"), worker.stream("numbers", -3) as numbers:
        found.extend(numbers)
    assert found == [0, 1, 2]
    assert worker.call("echo", 1).payload == 1


def test_a_stream_that_falls_silent_ends_the_worker(start: Start) -> None:
    worker = start()
    with pytest.raises(TooSlow), worker.stream("deaf", 3, patience_s=0.2) as numbers:
        next(numbers)
    assert worker.ended


# Alone in the world


@pytest.mark.parametrize("method", ["sleep", "clutch"])
def test_no_worker_outlives_a_daemon_that_is_killed(method: str) -> None:
    """Whatever the worker is doing, also when its code never gives the interpreter back."""
    program = f"""
import threading, time
from agent.engines.worker.process import Job, WorkerProcess
worker = WorkerProcess(Job("echo", "{HERE}:Echo"), {{}})
threading.Thread(target=lambda: worker.call({method!r}, 3600), daemon=True).start()
while not worker._lanes: time.sleep(0.001)
time.sleep(0.1)
print(worker.pid, flush=True)
time.sleep(3600)
"""
    daemon = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert daemon.stdout is not None
    with daemon.stdout:
        worker = Path("/proc") / daemon.stdout.readline().strip()
    assert "agent.engines.worker" in (worker / "cmdline").read_text()
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    deadline = time.monotonic() + 10
    while _alive(worker):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _alive(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_idle_worker_does_nothing_at_all(start: Start) -> None:
    worker = start()
    worker.call("echo", 1)

    def switches() -> list[str]:
        tasks = Path(f"/proc/{worker.pid}/task").iterdir()
        return [(task / "status").read_text().partition("voluntary_ctxt")[2] for task in tasks]

    time.sleep(0.1)
    before = switches()
    time.sleep(0.5)
    assert switches() == before
    assert 0 < worker.memory() < 200 * 2**20
    assert os.getpgid(worker.pid) == os.getpgid(0)
