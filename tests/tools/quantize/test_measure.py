"""Models are timed in processes of their own."""

import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.errors import EngineFailed, TooLarge
from tests.tools.quantize.conftest import INPUTS
from tools.quantize.arrays import archived
from tools.quantize.family import Artifact, Probe
from tools.quantize.machine import processor
from tools.quantize.measure import measure
from tools.quantize.memory import available, refuse_more_than


@pytest.fixture
def timed(classifier: Path, tmp_path: Path) -> tuple[Artifact, Probe, int]:
    place = tmp_path / "inputs.npz"
    place.write_bytes(archived({"in/x": np.zeros((1, INPUTS), np.float32)}))
    artifact = Artifact(classifier.parent, {classifier.name: "model"}, "onnx")
    return artifact, Probe("tools.quantize.probes:tensor", {"inputs": str(place)}), 7


def quiet(_text: str, _share: float) -> None:
    pass


def test_each_model_is_run_and_weighed(timed: tuple[Artifact, Probe, int]) -> None:
    found = measure({"one": timed, "other": timed}, quiet, rounds=2)
    for figures in found.values():
        assert figures.runs >= 3
        assert 0 < figures.p50_ms <= figures.p99_ms
        assert figures.peak_memory > 0
        assert figures.parameters == 7


def test_a_model_that_cannot_be_loaded_is_said(timed: tuple[Artifact, Probe, int]) -> None:
    artifact, probe, weights = timed
    artifact.model.write_bytes(b"broken")
    with pytest.raises(EngineFailed, match="cannot be timed"):
        measure({"one": (artifact, probe, weights)}, quiet, rounds=1)


def test_a_process_that_is_killed_is_said_and_none_is_left(
    timed: tuple[Artifact, Probe, int],
) -> None:
    probe = Probe("tests.tools.quantize.fatal:probe")
    with pytest.raises(EngineFailed, match="signal 9"):
        measure({"good": timed, "fatal": (timed[0], probe, 0)}, quiet, rounds=1)


def test_what_libraries_print_does_not_disturb(timed: tuple[Artifact, Probe, int]) -> None:
    noisy = replace(timed[1], target="tests.tools.quantize.fatal:talkative", arguments={})
    assert measure({"one": (timed[0], noisy, 0)}, quiet, rounds=1)["one"].runs > 0


def test_exactly_what_is_free_fits_and_a_byte_more_does_not() -> None:
    refuse_more_than(1000, 1000, "model")
    with pytest.raises(TooLarge, match="1 MiB"):
        refuse_more_than(1000, 1001, "model")


def test_this_machine_has_memory() -> None:
    assert 0 < available() < 2**63


X86 = "processor\t: 0\nmodel name\t: AMD EPYC\nflags\t\t: fpu sse2 avx avx2 fma\n"
NEWER = "model name\t: Xeon: 4\nflags\t\t: avx2 avx512f avx512_vnni\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd aes asimddp\nCPU part\t: 0xd0b\n"


@pytest.mark.parametrize(
    ("cpuinfo", "named"),
    [
        (X86, "AMD EPYC (avx2)"),
        (NEWER, "Xeon: 4 (avx2 avx512f avx512_vnni)"),
        (ARM, f"{platform.machine()} (asimddp)"),
        ("", platform.machine()),
    ],
)
def test_a_report_says_what_the_processor_has_for_integers(cpuinfo: str, named: str) -> None:
    """An int8 model is half as fast without VNNI: times without it mean little."""
    assert processor(cpuinfo) == named
