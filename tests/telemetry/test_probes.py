"""Looking at the machine: real values here, and "unknown" where a kernel does not say."""

import math
from pathlib import Path

from agent.telemetry.exposition import render
from agent.telemetry.metrics import Metrics
from agent.telemetry.probes import Probes


def test_this_process_uses_memory_and_this_disk_has_room(tmp_path: Path) -> None:
    machine = Probes(tmp_path).look()
    assert 5 < machine.memory_mib < 4096
    assert machine.available_mib > 10
    assert machine.disk_free_mib > 0
    assert machine.cpu_percent >= 0


def test_the_hottest_zone_counts_and_a_silent_one_does_not(tmp_path: Path) -> None:
    for number, text in enumerate(("41500\n", "63000\n", "switched off\n")):
        zone = tmp_path / f"class/thermal/thermal_zone{number}"
        zone.mkdir(parents=True)
        (zone / "temp").write_text(text)
    assert Probes(tmp_path, sys=tmp_path).temperature_c() == 63.0


def test_what_the_kernel_does_not_say_is_unknown(tmp_path: Path) -> None:
    machine = Probes(tmp_path / "absent", proc=tmp_path, sys=tmp_path).look()
    assert math.isnan(machine.memory_mib)
    assert math.isnan(machine.temperature_c)
    assert math.isnan(machine.disk_free_mib)


def test_probes_are_asked_when_somebody_looks(tmp_path: Path) -> None:
    metrics = Metrics()
    Probes(tmp_path).register(metrics)
    assert b"edge_agent_memory_pss_bytes " in render(metrics)
