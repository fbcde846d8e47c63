"""A device in a directory: its configuration, its models, and the daemon as a process of its own."""

import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
READY_S = (
    30.0  # seconds a daemon may take on a busy machine; the figure itself is bench/footprint's
)
STOP_S = 20.0  # seconds


def command() -> list[str]:
    """The installed `edge-agent`, or the module where only the sources are there."""
    installed = Path(sys.executable).parent / "edge-agent"
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "agent"]


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket, by the standard library alone."""

    def __init__(self, path: Path, timeout: float = 60.0) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@dataclass(frozen=True)
class Answer:
    """What the daemon answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The stable code of an error."""
        found: str = self.json["code"]
        return found


@dataclass
class Device:
    """One device; `directory` holds everything that survives a restart.

    Attributes:
        directory: short, since a Unix socket's path is.
        config: the text of its configuration, after the tables that every test needs.
        environment: variables beside the test's own.
    """

    directory: Path
    config: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def socket(self) -> Path:
        return self.directory / "agent.sock"

    @property
    def config_path(self) -> Path:
        return self.directory / "edge-agent.toml"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def log(self) -> str:
        path = self.directory / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def write_config(self) -> None:
        """Write the configuration file."""
        self.directory.mkdir(parents=True, exist_ok=True)
        head = '[device]\nid = "dev-1"\nstate = "state"\n[api]\nsocket = "agent.sock"\n'
        self.config_path.write_text(head + self.config)

    def adopt(self, models: Path) -> None:
        """Take over a directory of installed models, so that not every test installs its own."""
        shutil.copytree(models, self.state / "models", dirs_exist_ok=True)

    def run(self, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
        """Run a command of `edge-agent` to its end."""
        return subprocess.run(
            [*command(), *arguments],
            cwd=self.directory,
            env=self._env(),
            capture_output=True,
            text=True,
            timeout=60,
            check=check,
        )

    def start(
        self,
        *,
        wait: bool = True,
        wrapper: Sequence[str] = (),
        program: Sequence[str] = (),
        rewrite: bool = True,
    ) -> "Device":
        """Start the daemon.

        Args:
            wait: until it says that it is ready.
            wrapper: a command before the daemon's own.
            program: instead of the daemon's own command.
            rewrite: write the configuration first; False where a test wrote its own.
        """
        if rewrite:
            self.write_config()
        usual = [*command(), "run", "--config", str(self.config_path)]
        with (self.directory / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, *(program or usual)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._env(),
            )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        """Return once /readyz says so; fail with the log when the daemon ends or takes too long."""
        deadline = time.monotonic() + READY_S
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, f"the daemon ended:\n{self.log}"
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.get("/readyz").status == 200:
                    return
            time.sleep(0.01)
        raise AssertionError(f"not ready:\n{self.log}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Ask it to stop; exit status and seconds that it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(timeout=STOP_S)
        self.process = None
        return status, time.monotonic() - began

    def kill(self) -> None:
        """End it as a power cut would. Idempotent."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(timeout=STOP_S)
            self.process = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own."""
        connection = UnixConnection(self.socket)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path: str) -> Answer:
        return self.request("GET", path)

    def post(self, path: str, body: bytes, content_type: str = "application/json") -> Answer:
        return self.request("POST", path, body, {"Content-Type": content_type})

    def readings(self, stream: str, rows: Sequence[Mapping[str, float]]) -> Answer:
        """Hand rows in by the socket."""
        return self.post(f"/api/readings?stream={stream}", json.dumps(rows).encode())

    def metric(self, name: str, label: str = "") -> float:
        """The sum of a metric's series, or of those with a label such as `status="400"`."""
        text = self.get("/metrics").body.decode()
        lines = [line for line in text.splitlines() if line.startswith(f"edge_agent_{name}")]
        wanted = [ln for ln in lines if ln.split("{")[0].split(" ")[0] == f"edge_agent_{name}"]
        return sum(float(line.rpartition(" ")[2]) for line in wanted if label in line)

    def _env(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith("EDGE_AGENT_")}
        return {**kept, "PYTHONPATH": str(ROOT), **self.environment}


@contextlib.contextmanager
def device(directory: Path, config: str = "", models: Path | None = None) -> Iterator[Device]:
    """A device that is killed at the end, whatever happened."""
    found = Device(directory, config)
    found.directory.mkdir(parents=True, exist_ok=True)
    if models is not None:
        found.adopt(models)
    try:
        yield found
    finally:
        found.kill()


def eventually(true: Any, *, within_s: float = 30.0, what: str = "it") -> None:
    """Wait until `true()` is; fails saying what did not come."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"{what} did not come within {within_s} s"
        time.sleep(0.02)


def install_models(directory: Path, packages: list[Path]) -> Path:
    """Sign, publish, trust and install packages with the commands that an operator has."""
    from tools.fleet.repository import Repository

    repository = Repository.create(directory / "repository", directory / "keys")
    for package in packages:
        repository.publish(package)
    root = directory / "root.json"
    root.write_bytes(repository.root_bytes())
    home = Device(directory / "home")
    home.write_config()
    home.run("models", "--config", str(home.config_path), "provision", str(root))
    for package in packages:
        home.run(
            *("models", "--config", str(home.config_path)),
            *("install", package.name, "--from", str(directory / "repository")),
        )
    return home.state / "models"
