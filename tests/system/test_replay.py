"""`edge-agent replay`: recordings and standard input, into a running daemon."""

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.device import Device, command
from tests.system.conftest import MakeDevice
from tests.system.readings import Row, healthy, shaken


def csv(path: Path, rows: list[Row]) -> Path:
    lines = [";".join(rows[0]), *(";".join(map(str, row.values())) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def replay(device: Device, *arguments: str, text: str | None = None) -> Any:
    """The command's own account."""
    done = subprocess.run(
        [*command(), "replay", *arguments, "--socket", str(device.socket), "--json"],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def test_a_recording_becomes_rows_windows_and_a_warning(
    make_device: MakeDevice, tmp_path: Path
) -> None:
    device = make_device().start()
    path = csv(tmp_path / "pump-7.csv", healthy(1200) + shaken(1200, 60))
    told = replay(device, str(path))
    (stream,) = device.get("/api/status").json["streams"]
    assert (told["rows"], told["accepted"], told["dropped"]) == (1260, 1260, {})
    assert told["warnings"] == stream["warnings"] == 1
    assert (stream["stream"], stream["rows"]) == ("pump-7", 1260)


def test_a_real_recording_works_as_it_is(make_device: MakeDevice, shared_data: Path) -> None:
    """Labels are guessed and stay out; the anomalous half of the recording raises a warning."""
    device = make_device().start()
    told = replay(device, str(shared_data / "skab" / "valve1" / "0.csv"), "--stream", "valve")
    (stream,) = device.get("/api/status").json["streams"]
    assert told["accepted"] == 1147
    assert told["warnings"] >= 1
    assert len(stream["shares"]) == 8
    assert not set(stream["shares"]) & {"anomaly", "changepoint"}


def test_standard_input_line_by_line(make_device: MakeDevice) -> None:
    device = make_device().start()
    good = [json.dumps(row) for row in healthy(50)]
    text = "\n".join([*good[:25], "rubbish", *good[25:]]) + "\n"
    told = replay(device, "-", "--stream", "line", text=text)
    assert (told["rows"], told["accepted"], told["refused_lines"]) == (50, 50, 1)


def test_a_recording_that_is_none_is_a_clear_error(make_device: MakeDevice, tmp_path: Path) -> None:
    device = make_device().start()
    path = tmp_path / "x.csv"
    path.write_text("time;flow\n1;2\nsoon;3\n")
    done = device.run("replay", str(path), "--socket", str(device.socket), check=False)
    assert done.returncode == 2
    assert "line 3, column 'time'" in done.stderr
    assert "recording.invalid" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_daemon_is_a_clear_error(make_device: MakeDevice, tmp_path: Path) -> None:
    device = make_device()
    device.write_config()
    path = csv(tmp_path / "x.csv", healthy(3))
    done = device.run("replay", str(path), "--config", str(device.config_path), check=False)
    assert done.returncode == 1
    assert "link.unreachable" in done.stderr
    assert "Traceback" not in done.stderr
