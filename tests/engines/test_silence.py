"""No engine phones home: nothing is written outside our folders, no host is looked up."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.onnx_model import onnx_model

PROGRAM = """
import json, os, sys
seen = []
def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect"):
        seen.append([event, repr(args)])
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR):
        if not str(args[0]).startswith(("/dev/", "/proc/")):
            seen.append([event, repr(args[0])])
sys.addaudithook(watch)
sys.dont_write_bytecode = True
import numpy as np
from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
session = load_session(sys.argv[1], open(sys.argv[2], "rb").read(), EngineOptions(threads=2))
shapes = {s.name: [1 if n == -1 else n for n in s.shape] for s in session.inputs}
dtypes = {"FP32": np.float32, "INT8": np.int8}
session.run({s.name: np.zeros(shapes[s.name], dtypes[s.dtype]) for s in session.inputs})
print(json.dumps(seen))
"""

CALLS = "trace=connect,sendto,sendmsg,openat,open,creat,mkdir,mkdirat"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    return home


def run(engine: str, model: Path, home: Path, *prefix: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ORT_", "XDG_"))}
    environment |= {"HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [*prefix, sys.executable, "-c", PROGRAM, engine, str(model)]
    return subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_running_a_model_leaves_no_trace(
    engine: str, home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Without the variable in the environment: the engine has to set it for itself."""
    model = model_of(engine, tmp_path, request)
    done = run(engine, model, home)
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert list(home.rglob("*")) == []


@pytest.mark.parametrize("engine", ["onnx", "tflite"])
def test_the_kernel_agrees(
    engine: str, home: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Native code does not pass Python's hooks; the system calls of all threads do not lie."""
    strace = Path("/usr/bin/strace")
    if not strace.exists():
        pytest.skip("strace is not installed")
    model, log = model_of(engine, tmp_path, request), tmp_path / "calls"
    run(engine, model, home, str(strace), "-f", "-qq", "-o", str(log), "-e", CALLS)
    lines = log.read_text().splitlines()
    assert any("openat" in line for line in lines)
    assert [line for line in lines if "AF_INET" in line or ":53" in line] == []
    writing = [line for line in lines if "O_CREAT" in line or "mkdir" in line]
    assert [line for line in writing if " = -1 " not in line and "/dev/" not in line] == []


def model_of(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if engine == "tflite":
        shared: Path = request.getfixturevalue("shared_data")
        return shared / "mlperf-tiny" / "ad01_int8.tflite"
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model("Neg"))
    return path
