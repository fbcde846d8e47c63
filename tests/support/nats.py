"""A real cluster of three NATS servers that speak MQTT, one of which may be killed."""

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.broker import free_port

START_S = 30.0  # seconds until a cluster has chosen its leaders
NODES = 3


def find_nats() -> str | None:
    """The program's path; Debian keeps it outside an ordinary user's search path."""
    return shutil.which("nats-server") or shutil.which("nats-server", path="/usr/sbin")


@dataclass
class Node:
    """One server.

    Attributes:
        directory: its configuration, log and JetStream store.
        name: of the server, unique in the cluster.
        port: MQTT, on the loopback interface; stays the same over restarts.
        routes: port for the other nodes.
        monitor: port of the HTTP health check.
    """

    directory: Path
    name: str
    port: int = field(default_factory=free_port)
    routes: int = field(default_factory=free_port)
    monitor: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self, nodes: "list[Node]") -> None:
        """Start; the cluster may still be choosing its leaders when this returns."""
        program = find_nats()
        assert program is not None
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "nats.conf"
        path.write_text(self._text(nodes))
        with (self.directory / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(path)], stdout=log, stderr=log)

    def kill(self) -> None:
        """As a power cut would. Idempotent."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def healthy(self) -> bool:
        """Whether the server has caught up with the cluster (NATS' own health check)."""
        with contextlib.suppress(OSError, ValueError):
            address = f"http://127.0.0.1:{self.monitor}/healthz"
            with urllib.request.urlopen(address, timeout=1) as answer:
                return bool(json.load(answer)["status"] == "ok")
        return False

    def _text(self, nodes: "list[Node]") -> str:
        routes = ", ".join(f"nats://127.0.0.1:{node.routes}" for node in nodes)
        return f"""\
server_name: {self.name}
listen: "127.0.0.1:-1"
http: "127.0.0.1:{self.monitor}"
jetstream {{ store_dir: "{self.directory}/store", max_mem: 64M, max_file: 512M }}
cluster {{ name: edge, listen: "127.0.0.1:{self.routes}", routes: [{routes}] }}
mqtt {{ listen: "127.0.0.1:{self.port}", max_ack_pending: 100 }}
"""


@dataclass
class Cluster:
    """Three nodes, each of which knows the others."""

    nodes: list[Node]

    def wait(self) -> None:
        """Until every running node is healthy."""
        deadline = time.monotonic() + START_S
        while not all(node.healthy() for node in self.nodes):
            if time.monotonic() > deadline:
                log = (self.nodes[0].directory / "nats.log").read_text()
                raise TimeoutError(f"the cluster does not come up:\n{log[-2000:]}")
            time.sleep(0.05)

    def restart(self, node: Node) -> None:
        """Bring a killed node back; it may take messages before its health check says so."""
        node.start(self.nodes)


@contextlib.contextmanager
def nats_cluster(directory: Path) -> Iterator[Cluster]:
    """A running cluster; skips the test where NATS is not installed."""
    if find_nats() is None:
        pytest.skip("nats-server is not installed (Debian: apt install nats-server)")
    cluster = Cluster([Node(directory / f"n{i}", f"n{i}") for i in range(NODES)])
    for node in cluster.nodes:
        node.start(cluster.nodes)
    try:
        cluster.wait()
        yield cluster
    finally:
        for node in cluster.nodes:
            node.kill()
