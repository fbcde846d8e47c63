"""A model in a worker answers as it does in the daemon."""

from collections.abc import Iterator

import numpy as np
import pytest

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.engines.isolated import PROGRAM, IsolatedSession
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.errors import BadModel, BadTensor, NotReady
from tests.support.onnx_model import onnx_model

MODEL = onnx_model(shape=(-1, 4))


def worker(model: bytes = MODEL, program: str = PROGRAM) -> Worker:
    options = {"engine": "onnx", "model": "model.onnx", "threads": 1}
    return Worker(Job("negator 1.0.0", program, options), lambda: {"model.onnx": model})


@pytest.fixture
def isolated() -> Iterator[IsolatedSession]:
    session = IsolatedSession(worker())
    yield session
    session.close()


def test_it_computes_what_the_same_session_computes_here(isolated: IsolatedSession) -> None:
    inline = load_session("onnx", MODEL, EngineOptions())
    assert (isolated.inputs, isolated.outputs) == (inline.inputs, inline.outputs)
    for rows in (1, 3, 2000):
        x = np.random.default_rng(rows).standard_normal((rows, 4)).astype(np.float32)
        np.testing.assert_array_equal(isolated.run({"x": x})["y"], inline.run({"x": x})["y"])


def test_it_keeps_the_promises_of_every_session(isolated: IsolatedSession) -> None:
    with pytest.raises(BadTensor, match="expected FP32"):
        isolated.run({"x": np.zeros((1, 4))})
    with pytest.raises(BadTensor, match="no such input"):
        isolated.run({"x": np.zeros((1, 4), np.float32), "z": np.zeros(1)})
    isolated.close()
    isolated.close()
    with pytest.raises(NotReady):
        isolated.run({"x": np.zeros((1, 4), np.float32)})


def test_a_file_that_cannot_be_loaded_says_so() -> None:
    with pytest.raises(BadModel):
        worker(b"not a model")
