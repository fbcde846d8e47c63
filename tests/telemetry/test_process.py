"""The process as the kernel accounts for it, and "unknown" where it does not say."""

import math
import os
import time
from pathlib import Path

from agent.telemetry.metrics import Metrics
from agent.telemetry.process import Process


def values(process: Process) -> dict[str, float]:
    """Every metric and what it says now."""
    metrics = Metrics()
    process.register(metrics)
    return {metric.name: metric.series()[()] for metric in metrics}  # type: ignore[attr-defined]


def test_this_process_is_told_under_the_usual_names() -> None:
    now = values(Process())
    assert 1 < now["process_cpu_seconds_total"] + 1 < time.monotonic()
    assert 1e6 < now["process_resident_memory_bytes"] < now["process_virtual_memory_bytes"]
    assert time.time() - 3600 < now["process_start_time_seconds"] <= time.time() + 1
    assert 3 <= now["process_open_fds"] <= now["process_max_fds"]


def test_an_open_file_is_counted() -> None:
    process = Process()
    before = process.fds()
    with Path(os.devnull).open():
        assert process.fds() == before + 1


def test_a_name_with_blanks_and_brackets_moves_no_field(tmp_path: Path) -> None:
    """The command's name stands in the middle of the line, and may be anything."""
    stat = Path("/proc/self/stat").read_text()
    head, _, tail = stat.rpartition(")")
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "stat").write_text(f"{head.partition('(')[0]}(a) b (c){tail}")
    found = values(Process(tmp_path))["process_virtual_memory_bytes"]
    assert found == float(tail.split()[20])


def test_what_the_kernel_does_not_say_is_unknown(tmp_path: Path) -> None:
    unknown = {name for name, value in values(Process(tmp_path)).items() if math.isnan(value)}
    assert unknown == {
        "process_open_fds",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_virtual_memory_bytes",
    }
