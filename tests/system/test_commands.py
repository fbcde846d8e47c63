"""The commands that look at a device and change its models, as an operator types them."""

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.support.device import Device, command
from tests.support.packages import small_package
from tests.system.conftest import MakeDevice
from tools.fleet.repository import Repository

READINGS = b'{"stream": "pump-1", "time": [1, 2, 3], "flow": [1.0, 2.0, 3.0]}'


@pytest.fixture
def device(make_device: MakeDevice) -> Device:
    return make_device().start()


@pytest.fixture
def idle(make_device: MakeDevice) -> Device:
    """A device that is set up and not running, with no model."""
    made = make_device("", models=None)
    made.write_config()
    return made


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    made = Repository.create(tmp_path / "repository", tmp_path / "keys")
    for version in ("1.0.0", "1.1.0"):
        made.publish(small_package(tmp_path / version, version=version))
    return made


class TestStatus:
    """What a running daemon does, for a person and for a script."""

    def test_says_models_streams_and_outbox(self, device: Device) -> None:
        device.post("/api/readings", READINGS)
        printed = device.run("status").stdout
        assert printed.startswith("dev-1: ready\n")
        for word in ("pump-anomaly", "READY", "pump-1", "learning", "escalation"):
            assert word in printed

    def test_says_the_same_as_json(self, device: Device) -> None:
        device.post("/api/readings", READINGS)
        state = json.loads(device.run("status", "--json").stdout)
        assert state["ready"] is True
        assert state["streams"][0]["readings"] == 3

    def test_without_a_daemon_it_says_how_to_start_one(self, idle: Device) -> None:
        done = idle.run("status", check=False)
        assert done.returncode == 1
        assert "edge-agent run" in done.stderr
        assert "Traceback" not in done.stderr


class TestModels:
    """A model's life on a device: provision, install, show, verify, activate, roll back, remove."""

    @pytest.fixture
    def trusting(self, idle: Device, repository: Repository, tmp_path: Path) -> Device:
        root = tmp_path / "root.json"
        root.write_bytes(repository.root_bytes())
        idle.run("models", "provision", str(root))
        return idle

    def test_before_the_first_one(self, idle: Device) -> None:
        assert "No model is installed" in idle.run("models").stdout
        assert json.loads(idle.run("models", "--json").stdout) == []

    def test_a_whole_life(self, trusting: Device, tmp_path: Path) -> None:
        source = ("--from", str(tmp_path / "repository"))
        trusting.run("models", "install", "negator", "--version", "1.0.0", *source)
        trusting.run("models", "install", "negator", *source)
        listed = json.loads(trusting.run("models", "list", "--json").stdout)
        assert {m["version"]: m["active"] for m in listed} == {"1.0.0": False, "1.1.0": True}
        assert (
            "negator 1.0.0 is active again" in trusting.run("models", "rollback", "negator").stdout
        )
        assert "is active" in trusting.run("models", "activate", "negator", "1.1.0").stdout
        assert "is what" in trusting.run("models", "verify", "negator").stdout
        trusting.run("models", "remove", "negator", "1.0.0")
        assert len(json.loads(trusting.run("models", "--json").stdout)) == 1

    def test_a_running_daemon_takes_the_new_version_over(
        self, trusting: Device, tmp_path: Path
    ) -> None:
        source = ("--from", str(tmp_path / "repository"))
        trusting.run("models", "install", "negator", "--version", "1.0.0", *source)
        trusting.start(rewrite=False)
        trusting.get("/v2/models/negator")
        printed = trusting.run("models", "install", "negator", *source).stdout
        assert "negator 1.1.0 is verified" in printed
        assert "The running daemon answers with it from now on" in printed
        assert trusting.get("/v2/models/negator/versions/1.1.0/ready").status == 200
        listed = {m["version"]: m["state"] for m in trusting.get("/api/models").json["models"]}
        assert listed["1.1.0"] == "READY"

    def test_show_prints_the_card(self, make_device: MakeDevice) -> None:
        made = make_device()
        made.write_config()
        printed = made.run("models", "show", "pump-anomaly").stdout
        for word in ("window INT8", "METRIC", "Limits of use", "signed by"):
            assert word in printed
        card = json.loads(made.run("models", "show", "pump-anomaly", "--json").stdout)
        assert card["golden_cases"] == ["healthy", "faulty"]

    def test_a_signer_has_one_short_form_for_people_and_the_whole_for_scripts(
        self, make_device: MakeDevice
    ) -> None:
        made = make_device()
        made.write_config()
        listed = json.loads(made.run("models", "--json").stdout)
        (signer,) = listed[0]["signers"]
        assert len(signer) == 64
        verify = made.run("models", "verify", "pump-anomaly").stdout
        assert verify == f"pump-anomaly 1.0.0 is what key {signer[:8]} signed.\n"
        assert f"signed by: key {signer[:8]}\n" in made.run("models", "show", "pump-anomaly").stdout
        assert f" {signer[:8]} " in made.run("models", "list").stdout

    def test_a_device_without_a_root_installs_nothing(self, idle: Device, tmp_path: Path) -> None:
        done = idle.run("models", "install", "negator", "--from", str(tmp_path), check=False)
        assert done.returncode in (2, 3)
        assert "provision" in done.stderr

    def test_an_altered_file_is_refused_with_its_code(
        self, trusting: Device, tmp_path: Path
    ) -> None:
        for path in (tmp_path / "repository" / "targets").rglob("*.onnx"):
            path.write_bytes(path.read_bytes()[:-1] + b"\0")
        done = trusting.run(
            "models", "install", "negator", "--from", str(tmp_path / "repository"), check=False
        )
        assert done.returncode == 3
        assert "[trust.altered]" in done.stderr

    @pytest.mark.parametrize("verb", ["verify", "show", "rollback"])
    def test_an_unknown_model_is_named(self, idle: Device, verb: str) -> None:
        done = idle.run("models", verb, "nobody", check=False)
        assert done.returncode == 2
        assert "nobody" in done.stderr


class TestDoctor:
    """What is missing on this machine, and the command that mends it."""

    def test_a_healthy_device(self, device: Device) -> None:
        done = device.run("doctor")
        assert "FAIL" not in done.stdout
        assert "ok    daemon" in done.stdout

    def test_says_what_is_missing_as_json(self, idle: Device) -> None:
        checks = {c["name"]: c for c in json.loads(idle.run("doctor", "--json").stdout)}
        assert checks["trust root"]["state"] == "warn"
        assert "edge-agent models provision" in checks["trust root"]["mend"]
        assert checks["daemon"]["state"] == "warn"

    def test_a_wrong_configuration_fails_it(self, idle: Device) -> None:
        idle.config_path.write_text("[device]\nidd = 1\n")
        done = idle.run("doctor", "--config", str(idle.config_path), check=False)
        assert done.returncode == 1
        assert 'Did you mean "id"?' in done.stdout

    def test_a_broker_that_is_not_there_is_a_warning(self, idle: Device) -> None:
        with idle.config_path.open("a") as file:
            file.write('[sync]\nbrokers = ["mqtt://127.0.0.1:1"]\n')
        checks = {c["name"]: c for c in json.loads(idle.run("doctor", "--json").stdout)}
        assert checks["broker"]["state"] == "warn"


class TestOutbox:
    """What the device owes the cloud, read beside a running daemon."""

    def test_before_the_first_start(self, idle: Device) -> None:
        done = idle.run("outbox", check=False)
        assert done.returncode == 2
        assert "edge-agent run" in done.stderr

    def test_shows_the_account_and_what_goes_next(self, device: Device) -> None:
        device.run("replay", str(_healthy(device.directory)), "--stream", "pump-1")
        account = json.loads(device.run("outbox", "--json").stdout)
        assert account["account"]["report"]["queued"] == 1
        assert any("/report/" in message["topic"] for message in account["next"])
        assert "report" in device.run("outbox").stdout


class TestInit:
    """A configuration for a new device."""

    def test_nothing_that_exists_is_overwritten(self, idle: Device) -> None:
        before = idle.config_path.read_bytes()
        done = idle.run("init", str(idle.directory), check=False)
        assert done.returncode == 2
        assert idle.config_path.read_bytes() == before

    def test_a_name_that_is_no_topic_is_refused_before_anything_is_written(
        self, idle: Device
    ) -> None:
        done = idle.run("init", "new", "--id", "a/b", check=False)
        assert done.returncode == 2
        assert not (idle.directory / "new").exists()


def test_a_mistake_of_the_agent_is_a_line_and_no_traceback(idle: Device) -> None:
    idle.environment["EDGE_AGENT_CONFIG"] = "x" * 5000
    done = idle.run("status", check=False)
    assert done.returncode in (2, 70)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_reader_that_goes_away_is_no_error(device: Device) -> None:
    status = os.system(
        f"cd {device.directory} && {shlex.join(command())} status 2>err | head -c 1 >/dev/null"
    )
    assert status == 0
    assert "Traceback" not in (device.directory / "err").read_text()


def _healthy(directory: Path) -> Path:
    from agent.pipelines.sources.simulator import simulate

    rows = simulate(420, seed=1).rows
    path = directory / "pump.csv"
    lines = [",".join(("time", *rows.sensors))]
    for time, values in zip(rows.time.tolist(), rows.values.tolist(), strict=True):
        lines.append(",".join(str(cell) for cell in (time, *values)))
    path.write_text("\n".join(lines))
    return path
