"""The whole demo, as a user runs it: the installed command, a real daemon, a real broker."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agent.pipelines.sources.simulator import showcase

pytestmark = pytest.mark.timeout(180)


def command(*arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", "agent", "demo", *arguments]


def run(tmp_path: Path, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """The demo with its scratch directory inside the test's own."""
    return subprocess.run(
        command(*arguments), env=environment(tmp_path), capture_output=True, text=True,
        timeout=150, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "TMPDIR": str(tmp_path)}


def summary_of(done: "subprocess.CompletedProcess[str]") -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def left_behind(tmp_path: Path) -> Sequence[Path]:
    return list(tmp_path.iterdir())


def test_the_simulated_pump_is_warned_of_and_nothing_is_lost(tmp_path: Path) -> None:
    """An hour of the pump in a quarter of a minute, with the broker away for a quarter of it."""
    summary = summary_of(run(tmp_path, "--json", "--speed", "240"))
    rows = len(showcase().rows)
    assert (summary["rows"], summary["readings"]) == (rows, rows * 8)
    assert summary["windows"] > 0
    assert [found["warned"] for found in summary["labelled"]] == [True, True, True]
    assert summary["model"]["name"].startswith("pump-anomaly ")
    assert summary["model"]["signers"]
    messages = summary["messages"]
    assert messages["lost"] == messages["waiting"] == 0
    assert messages["received"] == messages["queued"] > 50
    assert left_behind(tmp_path) == []


def test_a_recording_of_ones_own_runs_as_it_is(tmp_path: Path, shared_data: Path) -> None:
    """Semicolons, a datetime column and label columns are recognised; labels are not fed."""
    recording = shared_data / "skab" / "valve1" / "0.csv"
    summary = summary_of(run(tmp_path, "--json", "--speed", "120", "--recording", recording))
    assert summary["rows"] == 1147
    assert summary["readings"] == 1147 * 8
    assert len(summary["labelled"]) == 1
    assert summary["messages"]["lost"] == 0


def test_without_a_terminal_the_demo_is_lines(tmp_path: Path) -> None:
    """No escape sequences in a log, and the account at the end."""
    done = run(tmp_path, "--speed", "600", "--home", tmp_path / "device")
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "Lost      0" in done.stdout
    assert (tmp_path / "device" / "edge-agent.toml").exists()


def test_ctrl_c_ends_in_order_and_leaves_nothing(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        command("--plain"), env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    )
    assert demo.stdout is not None
    for line in demo.stdout:
        if "readings/s" in line:
            break
    demo.send_signal(signal.SIGINT)
    rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130
    assert "Lost      0" in rest
    assert left_behind(tmp_path) == []


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "something").touch()
    done = run(tmp_path, "--home", tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr


@pytest.mark.parametrize("broker", ["mqtts://localhost", "wss://localhost/mqtt", "nonsense"])
def test_a_broker_that_cannot_be_relayed_is_refused(tmp_path: Path, broker: str) -> None:
    done = run(tmp_path, "--broker", broker)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_broker_that_does_not_answer_is_named(tmp_path: Path) -> None:
    done = run(tmp_path, "--broker", "mqtt://127.0.0.1:9")
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_no_recording_is_refused_before_anything_starts(tmp_path: Path) -> None:
    path = tmp_path / "notes.csv"
    path.write_text("hello\n")
    began = time.monotonic()
    done = run(tmp_path, "--recording", path)
    assert done.returncode == 2
    assert "notes.csv" in done.stderr
    assert time.monotonic() - began < 15
