"""The programs in examples/, each against a real daemon: all say the same."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.device import ROOT, Device, device

EXAMPLES = ROOT / "examples"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory, pump_models: Path) -> Iterator[Device]:
    with device(tmp_path_factory.mktemp("examples"), models=pump_models) as found:
        yield found.start()


def said(*arguments: str | Path) -> str:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def expected(daemon: Device) -> str:
    """What the command line says of the same window."""
    window = str(list(range(96)))
    answer = daemon.run(
        "infer", "pump-anomaly", "-i", window, "--raw", "-o", "evidence=-", "--socket", "agent.sock"
    )
    return "evidence " + answer.stdout.strip().strip("[]").replace(",", "") + "\n"


def test_python(daemon: Device) -> None:
    assert said(sys.executable, EXAMPLES / "infer.py", daemon.socket) == expected(daemon)


def test_node(daemon: Device) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    assert said(node, EXAMPLES / "infer.mjs", daemon.socket) == expected(daemon)


def test_c(daemon: Device, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    looked = [compiler, "-x", "c", "-E", "-include", "curl/curl.h", "/dev/null", "-o", "/dev/null"]
    if subprocess.run(looked, capture_output=True, check=False).returncode:
        pytest.skip("no headers of libcurl (libcurl4-openssl-dev)")
    program = tmp_path / "infer"
    strict = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    said(compiler, *strict, "-o", program, EXAMPLES / "infer.c", "-lcurl")
    assert said(program, daemon.socket) == expected(daemon)
