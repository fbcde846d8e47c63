"""How many threads are of use: what a cpuset, a worker's limit and a control group allow."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import cgroups
from agent.processors import quota, usable

OWN = "3:memory:/elsewhere\n0::/work.slice/a.service\n"


def limited(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "cpu.max").write_text(f"{text}\n")


def test_the_smallest_quota_on_the_way_up_counts(tmp_path: Path) -> None:
    inner = tmp_path / "work.slice" / "a.service"
    assert quota(OWN, tmp_path) == math.inf
    limited(inner, "max 100000")
    assert quota(OWN, tmp_path) == math.inf
    limited(inner.parent, "150000 100000")
    assert quota(OWN, tmp_path) == 1.5
    limited(tmp_path / "work.slice" / "b.service", "1000 100000")  # no one's parent
    assert quota(OWN, tmp_path) == 1.5


def test_the_first_version_of_groups_is_read_too(tmp_path: Path) -> None:
    for path, time in (("a", 250_000), ("a/b", -1)):
        folder = tmp_path / "cpu" / path
        folder.mkdir(parents=True)
        (folder / "cpu.cfs_quota_us").write_text(f"{time}\n")
        (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert quota("4:cpu,cpuacct:/a/b\n", tmp_path) == 2.5


@pytest.mark.parametrize("text", ["", "max", "many 100000", "100000 0", "1 2 3"])
def test_a_quota_that_says_nothing_limits_nothing(tmp_path: Path, text: str) -> None:
    limited(tmp_path, text)
    assert quota("0::/\n", tmp_path) == math.inf


def test_a_process_bound_to_one_processor_uses_one_thread() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from agent import processors as p; print(p.usable())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"


def test_what_this_machine_says_is_read() -> None:
    assert 1 <= usable() <= len(os.sched_getaffinity(0))
    assert quota(cgroups.own()) > 0
