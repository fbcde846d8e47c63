"""A wrong configuration: the line, the key, what was expected, and the nearest known key."""

import pytest

from tests.support.device import Device, eventually
from tests.system.conftest import MakeDevice


def refused(device: Device, text: str) -> str:
    """What `edge-agent run` says about a configuration that it must not start with."""
    device.directory.mkdir(parents=True, exist_ok=True)
    device.config_path.write_text(text)
    done = device.run("run", "--config", str(device.config_path), check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "config.invalid" in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[device]\nid = "d"\nstat = "x"\n', ["toml:3", "device.stat", "unknown key", '"state"']),
        ("[devise]\n", ["toml:1", "devise", "unknown key", '"device"']),
        ("[daemon]\n\nstop_deadline_s = true\n", ["toml:3", "a number", "true"]),
        ('[daemon]\nlog_level = "loud"\n', ["toml:2", "log_level", '"debug"']),
        ('[api]\nmode = "rwx"\n', ["toml:2", "api.mode", "octal"]),
        ('[[pipeline]]\nname = "a"\nmodel = "m"\nsummary_every_s = 0\n', ["toml:4", "86400"]),
        (
            '[[pipeline]]\nname = "a"\nmodel = "m"\n[pipeline.align]\nperiod = 1\n',
            ["toml:5", '"period_s"'],
        ),
        ('[sync]\nbrokers = ["http://x"]\n', ["toml:2", "sync.brokers", "mqtts://"]),
        ("[device\n", ["not valid TOML", "line 1"]),
    ],
)
def test_what_is_wrong_is_said_with_line_and_hint(
    make_device: MakeDevice, text: str, said: list[str]
) -> None:
    shown = refused(make_device("", models=None), text)
    for part in said:
        assert part in shown


def test_a_missing_file_says_how_to_write_one(make_device: MakeDevice) -> None:
    device = make_device("", models=None)
    device.directory.mkdir(parents=True, exist_ok=True)
    done = device.run("run", "--config", "absent.toml", check=False)
    assert done.returncode == 2
    assert "edge-agent init" in done.stderr


def test_what_init_writes_can_be_run(make_device: MakeDevice) -> None:
    """A device made by `init` starts, says that its model is missing, and answers."""
    device = make_device("", models=None)
    device.directory.mkdir(parents=True, exist_ok=True)
    device.run("init", ".")
    written = device.config_path.read_text()
    device.start(wait=False, rewrite=False)
    eventually(device.socket.exists, what="the socket")
    assert device.get("/healthz").status == 200
    assert device.config_path.read_text() == written


def test_a_client_does_not_look_elsewhere_when_the_configuration_here_is_wrong(
    make_device: MakeDevice,
) -> None:
    """Asking the system's daemon instead would be answered by another device, or by none."""
    device = make_device("", models=None)
    device.directory.mkdir(parents=True, exist_ok=True)
    device.config_path.write_text("[devise]\n")
    for command in ("status", "doctor"):
        done = device.run(command, check=False)
        assert done.returncode != 0
        assert "edge-agent.toml:1: devise: unknown key" in done.stdout + done.stderr


def test_a_socket_in_a_deep_directory_is_refused_with_a_way_out(make_device: MakeDevice) -> None:
    shown = refused(make_device("", models=None), f'[api]\nsocket = "{"deep/" * 20}s"\n')
    assert "92 bytes" in shown
    assert "/run/edge-agent/agent.sock" in shown
