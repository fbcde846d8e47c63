"""An operator at a workstation: commands that are obeyed, settings that take effect."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.broker import Mosquitto
from tests.support.device import ROOT, eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy
from tests.system.test_life import sync


class Workstation:
    """`edge-fleet` in a directory of its own."""

    def __init__(self, directory: Path, broker: Mosquitto) -> None:
        self.directory = directory
        directory.mkdir()
        self._environment = {**os.environ, "EDGE_FLEET_MQTT": broker.url, "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str, status: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tools.fleet", *arguments], cwd=self.directory,
            env=self._environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout or done.stderr

    def command(self, *arguments: str, status: int = 0) -> Any:
        text = self.run(
            "command", *arguments, "--device", "dev-1", "--key", "op.pem", status=status
        )
        return text if status else json.loads(text)


@pytest.fixture
def workstation(tmp_path: Path, broker: Mosquitto) -> Workstation:
    return Workstation(tmp_path / "desk", broker)


def test_a_device_obeys_its_operator_and_nobody_else(
    make_device: MakeDevice, broker: Mosquitto, workstation: Workstation
) -> None:
    keys = workstation.run("command-key", "op.pem", "--no-passphrase")
    device = make_device(PIPELINE + sync(broker) + keys).start()
    assert device.readings("pump-1", healthy(50)).status == 200
    assert workstation.command("relearn", "stream=pump-1") == {"stream": "pump-1", "watched": True}
    assert workstation.command("snapshot")["device"] == "dev-1"
    assert any("relearn" in line for line in workstation.command("logs", "lines=20")["lines"])
    assert "no such stream" in workstation.command("relearn", "stream=nothing", status=2)
    workstation.run("command-key", "other.pem", "--no-passphrase")
    refused = ("command", "ping", "--device", "dev-1", "--key", "other.pem", "--wait", "1")
    assert "no answer" in workstation.run(*refused, status=4)
    eventually(
        lambda: device.metric("commands_total", 'outcome="refused"') == 1, what="the refusal"
    )


def test_settings_take_effect_while_the_device_runs_and_after_a_restart(
    make_device: MakeDevice, broker: Mosquitto, workstation: Workstation
) -> None:
    device = make_device(PIPELINE + sync(broker)).start()
    changes = ("log_level=debug", "pipelines.pumps.summary_every_s=5", "sync.bandwidth_bit_s=x")
    report = json.loads(workstation.run("twin", "set", *changes, "--device", "dev-1"))
    assert report["settings"]["log_level"] == "debug"
    assert [part["path"] for part in report["rejected"]] == ["/sync/bandwidth_bit_s"]
    device.readings("pump-1", healthy(60))
    told = lambda: device.get("/api/status").json["outbox"]["classes"]["telemetry"]["enqueued"]  # noqa: E731
    eventually(lambda: told() >= 10, what="a summary every five seconds")
    device.kill()
    device.start()
    shown = json.loads(workstation.run("twin", "show", "--device", "dev-1"))
    assert shown["reported"]["settings"]["pipelines"]["pumps"]["summary_every_s"] == 5
    report = json.loads(workstation.run("twin", "set", "log_level=null", "--device", "dev-1"))
    assert report["settings"]["log_level"] == "info"


def test_an_outbox_is_drained_by_hand_while_no_daemon_runs(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    """A device that is taken out of service: what it still owes goes before it is wiped."""
    broker.stop()
    device = make_device(PIPELINE + sync(broker)).start()
    device.post("/api/escalations", b'{"context": {"question": "?"}}')
    refused = device.run("outbox", "drain", check=False)
    assert (refused.returncode, "another daemon" in refused.stderr) == (1, True)
    device.kill()
    gone = device.run("outbox", "drain", "--seconds", "0.5", check=False)
    assert (gone.returncode, "link.unreachable" in gone.stderr) == (1, True)
    broker.start()
    assert "1 messages were delivered, 0 are left" in device.run("outbox", "drain").stdout
    assert json.loads(device.run("outbox", "--json").stdout)["next"] == []


def test_a_changed_audit_log_is_seen_by_the_doctor(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    device = make_device(PIPELINE + sync(broker)).start()
    for _ in range(3):
        device.post("/api/escalations", b"{}")
    device.kill()
    config = ("--config", str(device.config_path))
    assert "audit log: 3 rows" in device.run("doctor", *config, check=False).stdout
    connection = sqlite3.connect(device.state / "agent.db")
    connection.execute("DELETE FROM audit WHERE seq = 2")
    connection.commit()
    connection.close()
    assert "row 2 is not as it was" in device.run("doctor", *config, check=False).stdout
