"""The memory that is stated before a run is enough for it, and not much more."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from tests.tools.quantize.conftest import model_of
from tools.quantize.memory import UNLIMITED, cgroup_left
from tools.quantize.onnx.footprint import footprint

CHANNELS, SIDE, LAYERS = 16, 160, 6
TENSOR = CHANNELS * SIDE * SIDE * 4  # bytes of an activation of one sample
MIB = 2**20

#: Runs the tool and prints the most memory it had, in KiB. Not `ru_maxrss`: a child that is forked
#: starts with its parent's, which here is the test runner's.
MEASURED = r"""
import atexit, re
from pathlib import Path
from tools.quantize.cli import main
peak = lambda: re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]
atexit.register(lambda: print(peak()))
main()
"""


def pictures_in() -> onnx.ModelProto:
    """Convolutions whose activations are large and whose weights are small."""
    random, nodes, weights, current, channels = np.random.default_rng(0), [], [], "x", 3
    for index in range(LAYERS):
        kernel = random.standard_normal((CHANNELS, channels, 3, 3)) / np.sqrt(9 * channels)
        weights.append(numpy_helper.from_array(kernel.astype(np.float32), f"w{index}"))
        nodes += [
            helper.make_node("Conv", [current, f"w{index}"], [f"c{index}"], pads=[1] * 4),
            helper.make_node("Relu", [f"c{index}"], [f"r{index}"]),
        ]
        current, channels = f"r{index}", CHANNELS
    nodes += [
        helper.make_node("GlobalAveragePool", [current], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    return model_of(nodes, weights, ("n", 3, SIDE, SIDE), ("n", CHANNELS))


def test_the_activations_of_a_sample_are_counted() -> None:
    found = footprint(pictures_in(), {"x": (3, SIDE, SIDE)})
    assert found.alive == 2 * TENSOR
    assert 2 * LAYERS * TENSOR <= found.all < (2 * LAYERS + 0.1) * TENSOR


@pytest.mark.parametrize(
    ("recipe", "margin"), [("int8-static-minmax", 2.0), ("int8-static-percentile", 3.0)]
)
def test_a_calibration_stays_within_what_was_stated(
    tmp_path: Path, recipe: str, margin: float
) -> None:
    """The activations of all 96 samples would take 1.8 GB."""
    model, calibration = tmp_path / "pictures.onnx", tmp_path / "calibration.npz"
    onnx.save_model(pictures_in(), str(model))
    random = np.random.default_rng(1)
    for name, count in (("evaluation", 8), ("calibration", 96)):
        x = random.random((count, 3, SIDE, SIDE), np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x)
    run = subprocess.run(
        [
            sys.executable, "-c", MEASURED, "onnx", model, "--recipe", recipe,
            "--calibrate", calibration, "--evaluate", tmp_path / "evaluation.npz",
            "--work", tmp_path / "work", "--rounds", "1",
        ],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    stated = re.search(r"about (\d+) MiB of memory", run.stderr)
    assert stated is not None
    peak = int(run.stdout.splitlines()[-1]) / 1024
    assert peak <= int(stated[1]) <= margin * peak


def group(folder: Path, limit: object, used: int, cache: int = 0) -> None:
    """A control group of version 2."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cache}\ninactive_file {cache}\n")


OWN = "0::/work.slice/a.service\n"


def test_the_smallest_limit_on_the_way_up_counts(tmp_path: Path) -> None:
    inner = tmp_path / "work.slice" / "a.service"
    inner.mkdir(parents=True)
    assert cgroup_left(OWN, tmp_path) == UNLIMITED
    group(inner, 1000, 100)
    assert cgroup_left(OWN, tmp_path) == 900
    group(inner.parent, 800, 300)
    assert cgroup_left(OWN, tmp_path) == 500
    group(tmp_path, 400, 390)  # as a container sees its own
    assert cgroup_left(OWN, tmp_path) == 10
    group(tmp_path, "max", 390)
    group(tmp_path / "work.slice" / "b.service", 1, 1)  # no one's parent
    assert cgroup_left(OWN, tmp_path) == 500


def test_files_that_were_read_do_not_fill_a_group(tmp_path: Path) -> None:
    group(tmp_path / "work.slice" / "a.service", 1000, 900, 600)
    assert cgroup_left(OWN, tmp_path) == 700


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    group(tmp_path / "work.slice" / "a.service", 1000, 1100)
    assert cgroup_left(OWN, tmp_path) == 0


def test_a_path_that_leads_out_of_what_is_mounted_finds_the_root(tmp_path: Path) -> None:
    group(tmp_path / "mounted", 1000, 100)
    for own in ("0::/docker/0123\n", "0::/\n", "0::/../../other\n"):
        assert cgroup_left(own, tmp_path / "mounted") == 900


def test_the_first_version_of_groups_is_read_too(tmp_path: Path) -> None:
    own = "9:name=systemd:/a\n4:cpu,memory:/a/b\n0::/\n"
    for path, limit in (("a", 700), ("a/b", 9223372036854771712)):
        folder = tmp_path / "memory" / path
        folder.mkdir(parents=True)
        (folder / "memory.limit_in_bytes").write_text(f"{limit}\n")
        (folder / "memory.usage_in_bytes").write_text("300\n")
        (folder / "memory.stat").write_text("cache 50\ntotal_inactive_file 50\n")
    assert cgroup_left(own, tmp_path) == 450


def test_what_this_machine_says_is_read() -> None:
    assert 0 <= cgroup_left(Path("/proc/self/cgroup").read_text()) <= UNLIMITED
