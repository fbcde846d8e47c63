"""The whole demo, as a user runs it: the installed command, a real daemon, a real broker."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.cli.demo import require
from agent.errors import EngineMissing
from agent.pipelines.sources.simulator import showcase

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A short path, as a machine's own temporary directory has: sockets allow no long ones."""
    with tempfile.TemporaryDirectory(prefix="ea-", dir="/tmp") as path:
        yield Path(path)


def command(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "agent", "demo", *arguments]


def run(scratch: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The demo with its scratch directory inside the test's own."""
    return subprocess.run(
        command(*arguments), env=environment(scratch), capture_output=True, text=True,
        timeout=150, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def environment(scratch: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(scratch)}


def summary_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def left_behind(scratch: Path) -> Sequence[Path]:
    return list(scratch.iterdir())


def test_the_simulated_pump_is_warned_of_and_nothing_is_lost(scratch: Path) -> None:
    """An hour and a half of the pump in seconds, with the broker away for a quarter of it."""
    summary = summary_of(run(scratch, "--json", "--speed", "240"))
    rows = len(showcase().rows)
    assert (summary["rows"], summary["readings"]) == (rows, rows * 8)
    assert summary["windows"] > 0
    assert [found["warned"] for found in summary["labelled"]] == [True, True, True]
    assert summary["model"]["name"].startswith("pump-anomaly ")
    assert summary["model"]["signers"]
    messages = summary["messages"]
    assert messages["lost"] == messages["waiting"] == 0
    assert messages["received"] == messages["queued"] > 50
    assert left_behind(scratch) == []


def test_a_recording_of_ones_own_runs_as_it_is(scratch: Path, shared_data: Path) -> None:
    """Semicolons, a datetime column and label columns are recognised; labels are not fed."""
    recording = shared_data / "skab" / "valve1" / "0.csv"
    summary = summary_of(run(scratch, "--json", "--speed", "120", "--recording", recording))
    assert summary["rows"] == 1147
    assert summary["readings"] == 1147 * 8
    assert len(summary["labelled"]) == 1
    assert summary["messages"]["lost"] == 0


def test_without_a_terminal_the_demo_is_lines(scratch: Path) -> None:
    """No escape sequences in a log, and the account at the end."""
    done = run(scratch, "--speed", "600", "--home", scratch / "device")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Lost      0" in done.stdout
    assert (scratch / "device" / "edge-agent.toml").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_leaving_early_ends_in_order_and_leaves_nothing(scratch: Path, number: int) -> None:
    """Ctrl-C, a service manager, or a terminal that is closed: no daemon and no directory remain."""
    demo = subprocess.Popen(
        command("--plain"), env=environment(scratch), stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "readings/s" in line:
            break
    demo.send_signal(number)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Lost      0" in rest
    assert left_behind(scratch) == []


def test_a_daemon_that_dies_ends_the_demo_with_its_log(scratch: Path) -> None:
    demo = subprocess.Popen(
        command("--plain", "--home", scratch / "device"), env=environment(scratch), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert demo.stdout is not None
    for line in demo.stdout:
        if "readings/s" in line:
            break
    os.kill(daemon_of(demo.pid), signal.SIGKILL)
    _, said = demo.communicate(timeout=60)
    assert demo.returncode == 1
    assert "the daemon ended by itself" in said
    assert "ready" in said.partition("Its log:")[2]
    assert "Traceback" not in said


def daemon_of(demo: int) -> int:
    """The demo's child process that runs the daemon."""
    children = Path(f"/proc/{demo}/task/{demo}/children").read_text().split()
    return next(
        int(pid)
        for pid in children
        if b"run" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    )


def test_a_directory_in_use_is_refused(scratch: Path) -> None:
    (scratch / "something").touch()
    done = run(scratch, "--home", scratch)
    assert done.returncode == 2
    assert "not empty" in done.stderr


@pytest.mark.parametrize("broker", ["mqtts://localhost", "wss://localhost/mqtt", "nonsense"])
def test_a_broker_that_cannot_be_relayed_is_refused(scratch: Path, broker: str) -> None:
    done = run(scratch, "--broker", broker)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_broker_that_does_not_answer_is_named(scratch: Path) -> None:
    done = run(scratch, "--broker", "mqtt://127.0.0.1:9")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_recording_is_refused_before_anything_starts(scratch: Path) -> None:
    path = scratch / "notes.csv"
    path.write_text("hello\n")
    began = time.monotonic()
    done = run(scratch, "--recording", path)
    assert done.returncode == 2
    assert "notes.csv" in done.stderr
    assert time.monotonic() - began < 15


def test_a_library_that_is_not_installed_is_named_with_the_command() -> None:
    with pytest.raises(EngineMissing, match="no_such_library") as refused:
        require(["json", "no_such_library"])
    assert "pip install" in refused.value.hint
