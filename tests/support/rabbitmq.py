"""A real RabbitMQ with its MQTT plugin, on free ports, with its state in a folder of the test."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.broker import free_port

START_S = 60.0  # seconds until it listens: it boots a virtual machine of its own


PATHS = "/usr/lib/rabbitmq/bin"


def find_rabbitmq() -> str | None:
    """The program's path; Debian's wrapper in `sbin` would change to a user of its own."""
    return shutil.which("rabbitmq-server", path=PATHS) or shutil.which("rabbitmq-server")


@dataclass
class RabbitMq:
    """One server that can be killed and started again with its state.

    Attributes:
        directory: configuration, database and log.
        port: MQTT, on the loopback interface; stays the same over restarts.
    """

    directory: Path
    port: int = field(default_factory=free_port)
    _amqp: int = field(default_factory=free_port)
    _distribution: int = field(default_factory=free_port)
    _names: int = field(default_factory=free_port)
    _cookie: str = field(default_factory=lambda: secrets.token_hex(16))
    _node: str = field(default_factory=lambda: f"edge{secrets.token_hex(4)}@localhost")
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and wait until it listens."""
        program = find_rabbitmq()
        assert program is not None
        self._configure()
        with (self.directory / "rabbitmq.out").open("ab") as log:
            self._process = subprocess.Popen(
                [program],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,  # shell scripts and helpers end with it
            )
        self._wait_until_listening()

    def kill(self) -> None:
        """As a power cut would, with all that it started. Idempotent."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop_name_service(self) -> None:
        """End Erlang's name service, which outlives the node in a session of its own."""
        epmd = shutil.which("epmd")
        if epmd is None:
            return
        for _ in range(50):  # it ends once it has noticed that the node is gone
            command = [epmd, "-port", str(self._names), "-kill"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if "Killing not allowed" not in done.stdout + done.stderr:
                return
            time.sleep(0.1)

    def _configure(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        (self.directory / "enabled_plugins").write_text("[rabbitmq_mqtt].\n")
        (self.directory / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self._amqp}\n"
            f"mqtt.listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "mqtt.allow_anonymous = true\n"
            "mqtt.prefetch = 100\n"
            # Memory that the machine lends to other tests is none of its business.
            "vm_memory_high_watermark.absolute = 512MiB\n"
            "disk_free_limit.absolute = 10MB\n"
        )

    def _environment(self) -> Mapping[str, str]:
        here = str(self.directory)
        return {
            **os.environ,
            "HOME": here,
            "ERL_CRASH_DUMP": "/dev/null",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._distribution),
            "ERL_EPMD_PORT": str(self._names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"-setcookie {self._cookie} +S 1",
            "RABBITMQ_MNESIA_BASE": f"{here}/mnesia",
            "RABBITMQ_LOG_BASE": f"{here}/log",
            "RABBITMQ_CONFIG_FILE": f"{here}/rabbitmq.conf",
            "RABBITMQ_CONF_ENV_FILE": f"{here}/none",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{here}/enabled_plugins",
            "RABBITMQ_PID_FILE": f"{here}/pid",
        }

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "rabbitmq.out").read_text()
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return
            time.sleep(0.1)
        raise TimeoutError((self.directory / "rabbitmq.out").read_text()[-2000:])


@contextlib.contextmanager
def rabbitmq(directory: Path) -> Iterator[RabbitMq]:
    """A running RabbitMQ; skips the test where it is not installed."""
    if find_rabbitmq() is None:
        pytest.skip("rabbitmq-server is not installed (Debian: apt install rabbitmq-server)")
    broker = RabbitMq(directory)
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()
        broker.stop_name_service()
