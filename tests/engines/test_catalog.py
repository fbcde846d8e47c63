"""The table of engines: what is installed, what is wrong with it, what to do."""

import subprocess
import sys

import pytest

from agent.engines import catalog
from agent.engines.base import EngineOptions
from agent.errors import BadModel


def test_both_engines_are_found_without_importing_them() -> None:
    code = (
        "import sys; from agent.engines import catalog; s = catalog.available();"
        "assert all(x.installed for x in s.values()), s;"
        "assert not {'onnxruntime', 'ai_edge_litert'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_library_that_is_absent_is_named_with_its_remedy() -> None:
    entry = catalog.Engine("x:Y", "speech", {"no-such-library": "no_such_library"})
    status = catalog._status(entry)
    assert not status.installed
    assert "no-such-library is not installed" in status.detail
    assert status.mend == "pip install 'edge-agent[speech]'"


def test_tflite_runtime_beside_numpy_2_is_told_apart_from_working() -> None:
    """It can be imported and fails at the first tensor, so importing would prove nothing."""
    assert "fails with NumPy 2.4.6" in catalog.judge("tflite-runtime", "2.14.0", "2.4.6")
    assert catalog.judge("tflite-runtime", "2.14.0", "1.26.4") == ""
    assert catalog.judge("ai-edge-litert", "2.3.0", "2.4.6") == ""


@pytest.mark.parametrize("engine", ["", "tensorrt", "../onnx"])
def test_an_unknown_engine_is_refused_with_the_known_ones(engine: str) -> None:
    with pytest.raises(BadModel, match="onnx, tflite"):
        catalog.load_session(engine, b"x", EngineOptions())


def test_an_empty_model_is_refused() -> None:
    with pytest.raises(BadModel, match="empty"):
        catalog.load_session("onnx", b"", EngineOptions())
