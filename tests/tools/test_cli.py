"""`edge-fleet` as an operator types it, and the pages that tell him to."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.errors import Revoked
from agent.registry import Registry
from tests.support.packages import small_package

DOCS = Path(__file__).parents[2] / "docs"
ROOT = Path(__file__).parents[2]


class Workstation:
    """A working directory with the command in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **os.environ,
            "EDGE_FLEET_PASSPHRASE": "correct horse",
            "PYTHONPATH": str(ROOT),
        }

    def run(self, *arguments: str, status: int = 0) -> str:
        command = [sys.executable, "-m", "tools.fleet", *arguments]
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, capture_output=True, text=True,
            check=False, stdin=subprocess.DEVNULL, timeout=60,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    def inspect(self) -> dict[str, dict[str, list[str]]]:
        found = json.loads(self.run("inspect", "--json"))
        return {role["role"]: role for role in found["roles"]}

    def device(self, name: str = "device") -> Registry:
        registry = Registry(self.directory / name, clock=SystemClock())
        root = self.directory / "repository" / "metadata" / "1.root.json"
        registry.provision(root.read_bytes())
        return registry

    @property
    def address(self) -> str:
        return str(self.directory / "repository")


@pytest.fixture
def workstation(tmp_path: Path) -> Workstation:
    workstation = Workstation(tmp_path)
    workstation.run("init")
    small_package(tmp_path / "negator")
    return workstation


def test_from_init_to_an_installed_model(workstation: Workstation) -> None:
    assert "negator 1.0.0 is published" in workstation.run("publish", "negator")
    assert "negator" in workstation.run("inspect")
    (workstation.directory / "usb").mkdir()
    assert "edge-agent-repository" in workstation.run("export", "--usb", "usb")
    stick = workstation.directory / "usb" / "edge-agent-repository"
    assert workstation.device().install(str(stick), "negator").active


def test_errors_are_one_line_with_a_code(workstation: Workstation) -> None:
    workstation.environment["EDGE_FLEET_PASSPHRASE"] = "wrong"
    assert "wrong passphrase" in workstation.run("refresh", status=2)
    del workstation.environment["EDGE_FLEET_PASSPHRASE"]
    assert "[key.invalid]" in workstation.run("refresh", status=2)
    workstation.run("withdraw", "negator", "9.9.9", status=2)
    workstation.run("publish", "nowhere", status=2)
    workstation.run("key", "revoke", "00000000", status=2)


def test_a_key_file_that_others_may_read_is_refused_with_the_command_that_mends_it(
    workstation: Workstation,
) -> None:
    (path,) = (workstation.directory / "keys").glob("timestamp-*.pem")
    path.chmod(0o644)
    shown = workstation.run("refresh", status=2)
    assert f"chmod 600 keys/{path.name}" in shown
    assert "[key.invalid]" in shown
    path.chmod(0o600)
    workstation.run("refresh")


def test_development_keys_have_no_passphrase(tmp_path: Path) -> None:
    workstation = Workstation(tmp_path)
    del workstation.environment["EDGE_FLEET_PASSPHRASE"]
    workstation.run("init", "--no-passphrase")
    workstation.run("key", "rotate", "targets")
    small_package(tmp_path / "negator")
    workstation.run("publish", "negator")


def test_a_role_may_need_more_signatures_than_one(workstation: Workstation) -> None:
    assert "expected 1 to 1" in workstation.run("key", "threshold", "targets", "2", status=2)
    workstation.run("key", "add", "targets")
    workstation.run("key", "threshold", "targets", "2")
    assert workstation.inspect()["targets"]["threshold"] == 2
    workstation.run("publish", "negator")
    assert workstation.device().install(workstation.address, "negator").active
    next((workstation.directory / "keys").glob("targets-*")).unlink()
    small_package(workstation.directory / "other", name="other")
    assert "not enough keys" in workstation.run("publish", "other", status=2)


# docs/keys.md: each of its console blocks is run here, in order, as it stands.


def commands(page: str, heading: str) -> list[list[str]]:
    """The `edge-fleet` lines of the console blocks below a heading."""
    text = (DOCS / page).read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    found = [line.removeprefix("$ ").split() for line in lines if line.startswith("$ edge-fleet ")]
    assert found, f"{page} has no commands below {heading}"
    return found


def follow(workstation: Workstation, heading: str, **values: str) -> None:
    for words in commands("keys.md", heading):
        arguments = [values.get(word, word) for word in words[1:]]
        workstation.run(*arguments)


def test_the_page_on_a_stolen_signing_key(workstation: Workstation) -> None:
    """Afterwards what the thief signs is refused, and the fleet's own models still load."""
    workstation.run("publish", "negator")
    device = workstation.device()
    device.install(workstation.address, "negator")
    thief = Workstation(workstation.directory / "thief")
    shutil.copytree(workstation.directory / "keys", thief.directory / "keys")
    shutil.copytree(workstation.directory / "repository", thief.directory / "repository")
    small_package(thief.directory / "backdoor", name="backdoor")
    thief.run("publish", "backdoor")
    victim = workstation.device("victim")
    victim.install(thief.address, "backdoor")

    follow(workstation, "A stolen targets key")

    device.refresh(workstation.address)
    assert device.open("negator").ref.version == "1.0.0"
    victim.refresh(workstation.address)
    with pytest.raises(Revoked):
        victim.open("backdoor")


def test_the_page_on_a_lost_key(workstation: Workstation) -> None:
    for path in (workstation.directory / "keys").glob("targets-*.pem"):
        path.unlink()
    workstation.run("publish", "negator", status=2)
    follow(workstation, "A lost targets, snapshot or timestamp key")
    workstation.run("publish", "negator")
    assert workstation.device().install(workstation.address, "negator").active


def test_the_page_on_a_stolen_root_key(tmp_path: Path) -> None:
    workstation = Workstation(tmp_path)
    small_package(tmp_path / "negator")
    follow(workstation, "Before anything happens")
    workstation.run("publish", "negator")
    device = workstation.device()
    device.install(workstation.address, "negator")
    stolen = workstation.inspect()["root"]["keys"][0]
    follow(workstation, "One of several root keys, lost or stolen", KEYID=stolen[:8])
    assert stolen not in workstation.inspect()["root"]["keys"]
    device.refresh(workstation.address)
    assert device.open("negator").ref.version == "1.0.0"
