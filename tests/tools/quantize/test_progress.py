"""What is seen of a long step, on a terminal and where there is none."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest

from tests.support.device import ROOT
from tools.quantize.progress import Display, part

#: A step in which a library prints, and works for two seconds.
STEP = """
import sys, time
from tools.quantize.libraries import quiet
from tools.quantize.progress import Display
with Display() as display, display.step("Building") as progress:
    progress("by a library", 0.25)
    with quiet():
        print("chatter", file=sys.stderr)
        time.sleep(2)
        print("chatter")
"""


def test_a_bar_moves_while_a_library_is_kept_quiet() -> None:
    pytest.importorskip("rich")
    own, other = pty.openpty()
    command = [sys.executable, "-c", STEP]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80"}
    with subprocess.Popen(command, stderr=other, stdout=other, cwd=ROOT, env=environment) as child:
        os.close(other)
        seen = _read(own)
    assert child.returncode == 0
    frames = [text for _, text in seen if "Building" in text]
    assert len(frames) > 5
    assert "by a library" in frames[-1]
    assert "chatter" not in "".join(text for _, text in seen)


def _read(terminal: int) -> list[tuple[float, str]]:
    """What is written, with its time, until the other side closes."""
    seen = []
    while select.select([terminal], [], [], 60)[0]:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # how a terminal ends
            break
        seen.append((time.monotonic(), data.decode(errors="replace")))
    os.close(terminal)
    return seen


def test_without_a_terminal_every_tenth_is_a_line(capfd: pytest.CaptureFixture[str]) -> None:
    with Display(pause=0) as display, display.step("Reading") as progress:
        for number in range(100):
            progress(f"text {number}", number / 100)
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "Reading"
    assert lines[1:] == [f"Reading: {n}0 %, text {n}0" for n in range(1, 10)]


def test_a_short_step_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with Display() as display, display.step("Reading") as progress:
        progress("text", 0.5)
    assert capfd.readouterr().err == "Reading\n"


def test_a_part_tells_its_share_of_the_step() -> None:
    told = []
    progress = part(lambda text, share: told.append((text, share)), 0.5, 1.0)
    progress("writing", 0.0)
    progress("writing", 0.5)
    assert told == [("writing", 0.5), ("writing", 0.75)]
