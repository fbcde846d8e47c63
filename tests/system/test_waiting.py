"""`edge-agent status --wait`: for scripts that start the daemon and go on."""

import json
import subprocess
import time

from tests.support.device import command
from tests.system.conftest import MakeDevice


def test_what_follows_finds_the_daemon_ready(make_device: MakeDevice) -> None:
    daemon = make_device().start(wait=False)
    state = json.loads(daemon.run("status", "--wait", "--json").stdout)
    assert state["ready"]
    assert [model["state"] for model in state["models"]] == ["READY"]


def test_a_daemon_that_never_comes_is_given_up_after_the_time(make_device: MakeDevice) -> None:
    device = make_device()
    device.write_config()
    began = time.monotonic()
    done = device.run("status", "--wait", "0.3", check=False)
    assert time.monotonic() - began >= 0.3
    assert done.returncode == 1
    assert "no daemon is running. Start it: edge-agent run" in done.stderr


def test_a_daemon_that_is_not_ready_says_why(make_device: MakeDevice) -> None:
    """The pipeline's model is not installed."""
    daemon = make_device(models=None)
    daemon.start(wait=False)
    done = daemon.run("status", "--wait", "2", check=False)
    assert done.returncode == 1
    assert "pump-anomaly" in done.stderr


def test_the_longest_wait_is_an_hour() -> None:
    done = subprocess.run(
        [*command(), "status", "--wait", "3601"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "0<=x<=3600" in done.stderr
