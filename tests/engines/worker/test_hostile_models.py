"""Real models that crash, hang or eat memory natively: their worker ends, and nothing else."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from agent.engines.isolated import PROGRAM, IsolatedSession
from agent.engines.worker.limits import BASE_MIB, Limits
from agent.engines.worker.process import Job, WorkerProcess
from agent.engines.worker.supervisor import Worker
from agent.errors import AgentError, TooSlow, WorkerDied
from tests.support.hostile_models import count_to, greedy_model, looping_model
from tests.support.onnx_model import onnx_model

SOURCE = Path(__file__).parents[2] / "support" / "crash_operator.c"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The custom operator, built here."""
    path = tmp_path_factory.mktemp("operator") / "crash.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, SOURCE], check=True)
    return path


def session(model: bytes, patience_s: float = 60.0) -> IsolatedSession:
    options = {"engine": "onnx", "model": "model.onnx"}
    limits = Limits(memory_mib=BASE_MIB + 64)
    job = Job("hostile 1.0.0", PROGRAM, options, limits, patience_s=patience_s)
    return IsolatedSession(Worker(job, lambda: {"model.onnx": model}))


def test_a_segfault_inside_a_custom_operator_ends_its_worker_only(library: Path) -> None:
    model = onnx_model("Crash", domain="test.crash", shape=(1, 4))
    program = "tests.support.hostile_models:CustomOperator"
    worker = WorkerProcess(Job("crash", program, str(library)), {"model.onnx": model})
    assert worker.call("echo", 1).payload == 1
    with pytest.raises(WorkerDied, match="SIGSEGV"):
        worker.call("run", None, {"x": np.zeros((1, 4), np.float32)})
    worker.close()


def test_a_model_that_loops_for_ever_is_ended_and_answers_again() -> None:
    looping = session(looping_model(), patience_s=1.0)
    try:
        assert looping.run(count_to(5))["y"].item() == 5
        with pytest.raises(TooSlow):
            looping.run(count_to(2**62))
        assert looping.run(count_to(7))["y"].item() == 7
    finally:
        looping.close()


def test_a_model_that_eats_memory_is_stopped_and_answers_again() -> None:
    greedy = session(greedy_model())
    try:
        assert greedy.run(count_to(1000))["y"].item() == 1000
        with pytest.raises(AgentError) as caught:
            greedy.run(count_to(2**30))
        assert caught.value.code in {"engine.failed", "worker.died"}
        assert greedy.run(count_to(1000))["y"].item() == 1000
    finally:
        greedy.close()
