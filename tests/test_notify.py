"""sd_notify: systemd hears the state, and nothing else is disturbed."""

import socket
from pathlib import Path

import pytest

from agent.notify import notify


def test_sends_the_state_to_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert listener.recv(64) == b"READY=1"


def test_speaks_to_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0edge-agent-test-notify")
        monkeypatch.setenv("NOTIFY_SOCKET", "@edge-agent-test-notify")
        notify("STOPPING=1")
        assert listener.recv(64) == b"STOPPING=1"


@pytest.mark.parametrize("address", ["", "relative", "/nowhere/at/all"])
def test_is_silent_without_a_listener(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
