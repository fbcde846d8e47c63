"""Workers that end with their test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from agent.engines.worker.process import Job, WorkerProcess
from tests.support.programs import HERE

Start = Callable[..., WorkerProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a process with the program Echo; keywords are those of `Job`."""
    started: list[WorkerProcess] = []

    def begin(files: dict[str, bytes] | None = None, **chosen: Any) -> WorkerProcess:
        process = WorkerProcess(Job("echo 1.0.0", f"{HERE}:Echo", **chosen), files or {})
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
