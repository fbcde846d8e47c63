"""Limits by cgroup, where the system gives one."""

from pathlib import Path

from agent.engines.worker.limits import Limits, delegated, make_group


def test_a_group_has_its_limits(tmp_path: Path) -> None:
    group = make_group(Limits(memory_mib=100, cpus=0.5), tmp_path)
    assert group is not None
    assert group.path.parent == tmp_path
    found = {file.name: file.read_text() for file in group.path.iterdir()}
    assert found == {
        "memory.max": str(100 * 2**20),
        "memory.swap.max": "0",
        "cpu.max": "50000 100000",
    }
    group.admit(4711)
    assert (group.path / "cgroup.procs").read_text() == "4711"


def test_where_no_group_can_be_made_there_is_none(tmp_path: Path) -> None:
    assert make_group(Limits(), None) is None
    assert make_group(Limits(), tmp_path / "missing") is None


def test_groups_are_made_beside_the_daemons_own(tmp_path: Path) -> None:
    service = tmp_path / "system.slice" / "edge-agent.service"
    (service / "daemon").mkdir(parents=True)
    own = "1:name=systemd:/\n0::/system.slice/edge-agent.service/daemon\n"
    assert delegated(own, tmp_path) == service
    assert (service / "cgroup.subtree_control").read_text() == "+memory +cpu"


def test_a_group_that_is_not_given_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "user.slice").mkdir()
    assert delegated("0::/user.slice/session\n", tmp_path) is None
    assert delegated("0::/gone/daemon\n", tmp_path) is None
    assert delegated("", tmp_path) is None
