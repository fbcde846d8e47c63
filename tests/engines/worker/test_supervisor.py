"""A worker that ends is started again, and nobody waits longer than is worth it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.engines.worker.backoff import LONGEST_PAUSE_S, STEADY_S, Backoff
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.errors import Altered, NotReady, TooSlow, WorkerDied
from tests.support.programs import HERE

Files = dict[str, bytes]


@pytest.fixture
def supervise() -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def begin(files: Callable[[], Files] = dict, **chosen: Any) -> Worker:
        started.append(Worker(Job("echo 1.0.0", f"{HERE}:Echo", **chosen), files))
        return started[-1]

    yield begin
    for worker in started:
        worker.close()


def test_the_next_request_after_a_kill_is_answered(supervise: Callable[..., Worker]) -> None:
    worker = supervise()
    before = worker.call("pid").payload
    os.kill(before, signal.SIGKILL)
    while worker.ends == 0:
        time.sleep(0.001)
    assert worker.call("pid").payload != before


def test_the_files_are_verified_again_for_each_process(supervise: Callable[..., Worker]) -> None:
    versions = iter([b"one", b"two"])
    worker = supervise(lambda: {"model": next(versions)})
    assert worker.call("file", "model").payload == b"one"
    with pytest.raises(WorkerDied):
        worker.call("segfault")
    assert worker.call("file", "model").payload == b"two"


def test_a_worker_that_hangs_is_replaced(supervise: Callable[..., Worker]) -> None:
    worker = supervise(patience_s=0.3)
    with pytest.raises(TooSlow):
        worker.call("sleep", 60)
    assert worker.call("echo", 1).payload == 1


def test_one_that_cannot_be_started_again_says_when_to_come_back(
    supervise: Callable[..., Worker],
) -> None:
    calls = iter([{}])

    def altered() -> Files:
        for files in calls:
            return files
        raise Altered("the bytes differ from what was signed")

    worker = supervise(altered)
    with pytest.raises(WorkerDied):
        worker.call("segfault")
    deadline = time.monotonic() + 30
    while worker._backoff.pause_s < 4:  # until nobody waits any more
        time.sleep(0.02)
        assert time.monotonic() < deadline
    began = time.monotonic()
    with pytest.raises(WorkerDied, match="started again") as caught:
        worker.call("echo")
    assert caught.value.retry_after_s >= 1
    assert time.monotonic() - began < 1.5


def test_closing_ends_it_for_good(supervise: Callable[..., Worker]) -> None:
    worker = supervise()
    pid = worker.call("pid").payload
    worker.close()
    worker.close()
    with pytest.raises(NotReady):
        worker.call("echo")
    assert not Path(f"/proc/{pid}").exists()
    assert (worker.running, worker.memory, worker.ends) == (False, 0, 0)


def test_pauses_grow_to_a_bound_and_are_forgotten() -> None:
    backoff, pauses = Backoff(), []
    for _ in range(100):
        backoff = backoff.after(1.0)
        pauses.append(backoff.pause_s)
    assert pauses[:4] == [0.0, 0.5, 1.0, 2.0]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S
    assert backoff.after(STEADY_S).pause_s == 0.0
