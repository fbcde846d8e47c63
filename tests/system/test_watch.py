"""`edge-agent status --watch` on a real terminal, and beside one."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.support.device import Device, command
from tests.system.conftest import MakeDevice

ENTER, LEAVE = b"\x1b[?1049h", b"\x1b[?1049l"


class Terminal:
    """A pseudo terminal with the command in it."""

    def __init__(self, arguments: list[str], columns: int, rows: int) -> None:
        self.pid, self.end = pty.fork()
        if self.pid == 0:
            os.execv(arguments[0], arguments)
        self.seen = b""
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, pattern: bytes) -> bytes:
        """What was written up to a pattern, and since the last one."""
        deadline = time.monotonic() + 30
        while not (found := re.search(pattern, self.seen, re.DOTALL)):
            assert time.monotonic() < deadline, self.seen.decode(errors="replace")
            if select.select([self.end], [], [], 0.2)[0]:
                self.seen += os.read(self.end, 65536)
        text, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return text

    def status(self) -> int:
        """Wait for the command's end."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def daemon(make_device: MakeDevice) -> Iterator[Device]:
    return make_device().start()


def watching(daemon: Device) -> list[str]:
    return [*command(), "status", "--watch", "--interval", "0.1", "--socket", str(daemon.socket)]


def test_it_follows_the_terminal_and_the_daemon_and_leaves_no_trace(daemon: Device) -> None:
    terminal = Terminal(watching(daemon), 100, 30)
    first = terminal.until(rb"pump-anomaly 1.0.0[^\n]*")
    assert ENTER in first
    assert b"dev-1: ready" in first
    terminal.resize(20, 4)
    terminal.until("… \\d+ more lines".encode())
    daemon.kill()
    terminal.resize(100, 30)
    terminal.until(b"no daemon is running.*trying again")
    daemon.start()
    terminal.until(b"dev-1: ready")
    os.write(terminal.end, b"\x03")
    terminal.until(re.escape(LEAVE))
    assert terminal.status() == 0


def test_without_a_terminal_each_look_is_printed_below_the_last(daemon: Device) -> None:
    running = subprocess.Popen(watching(daemon), stdout=subprocess.PIPE)
    assert running.stdout is not None
    text = b"".join(running.stdout.readline() for _ in range(30))
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=30)
    assert text.count(b"dev-1: ready") > 1
    assert b"\x1b" not in text + rest
    assert running.returncode == 0
