"""The demo's device: a real daemon in a process of its own, set up as an operator would."""

import asyncio
import contextlib
import dataclasses
import secrets
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path

from agent.api.client import Client
from agent.cli.demo.scene import Outbox
from agent.clock import SystemClock
from agent.config.read import load
from agent.config.settings import DeviceSettings
from agent.config.template import literal
from agent.errors import AgentError, BadRequest, NotReady
from agent.store.inspection import look
from agent.sync.topics import Topics

MODEL = "pump-anomaly"
READY_S = 20.0  # longest wait for the daemon, seconds
STOP_S = 15.0  # longest wait for its end, seconds
LOG_TAIL = 15  # lines shown of a daemon that failed


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of a demo and what lies where in it.

    Attributes:
        path: the directory.
        device: the device's name, different in each demo, since a broker may be shared.
    """

    path: Path
    device: str = field(default_factory=lambda: f"demo-{secrets.token_hex(3)}")

    @property
    def topics(self) -> str:
        """What the topics of this device begin with."""
        return Topics(DeviceSettings().topic_prefix, self.device).root

    @property
    def config(self) -> Path:
        return self.path / "edge-agent.toml"

    @property
    def socket(self) -> Path:
        return self.path / "agent.sock"

    @property
    def state(self) -> Path:
        return self.path / "state"

    @property
    def repository(self) -> Path:
        return self.path / "repository"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def log(self) -> Path:
        return self.path / "daemon.log"

    def claim(self) -> None:
        """Take the directory for this demo.

        Raises:
            BadRequest: something is in it already.
        """
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(self.path.iterdir()):
            raise BadRequest(
                "the directory is not empty", where=str(self.path), hint="Name a new one."
            )

    def write_config(
        self, broker: str, stream: str, summary_every_s: float, *, protocol: str = "auto"
    ) -> None:
        """Write the configuration that the daemon reads.

        Args:
            broker: address of the cloud's broker.
            stream: name of the stream to watch.
            summary_every_s: how often scores are summed up for the cloud, seconds of stream time.
            protocol: version of MQTT; "auto" finds out.
        """
        self.config.write_text(
            f"""\
[device]
id = {literal(self.device)}
state = "state"

[api]
socket = "agent.sock"

[models]
repository = "repository"
preload = [{literal(MODEL)}]

[sync]
brokers = [{literal(broker)}]
client_id = {literal(self.device)}
protocol = {literal(protocol)}
backoff_min_s = 0.2
backoff_max_s = 1.0

[[pipeline]]
name = "demo"
model = {literal(MODEL)}
streams = [{literal(stream)}]
summary_every_s = {literal(summary_every_s)}
"""
        )

    def outbox(self) -> Outbox:
        """The account of the device's outbox, as of its last commit."""
        seen = look(load(self.config, {}).device.database, peek=0)
        return Outbox.of(**dataclasses.asdict(seen.counts.total))


@dataclass(frozen=True, slots=True)
class Trusted:
    """The model that the device now trusts: its name and version, and the keys that signed it."""

    model: str
    signers: tuple[str, ...]


def shipped_model() -> Path:
    """The package of the anomaly model that comes with the agent."""
    import models

    return Path(models.__file__).parent / MODEL


def establish_trust(home: Home, package: Path) -> Trusted:
    """Make a development trust root, sign and publish the package, and install it on the device.

    The device's configuration is written already. This is what `edge-fleet init`, `edge-fleet publish`, `edge-agent models provision` and
    `edge-agent models install` do for an operator.
    """
    from agent.registry import Registry
    from tools.fleet.repository import Repository

    repository = Repository.create(home.repository, home.keys)
    repository.publish(package)
    registry = Registry(load(home.config, {}).device.models, clock=SystemClock())
    registry.provision(repository.root_bytes())
    installed = registry.install(str(home.repository), MODEL)
    return Trusted(str(installed.ref), tuple(installed.signers))


class Daemon:
    """`edge-agent run` as a child process."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self.client = Client(home.socket)

    async def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            NotReady: it ended, or was not ready in time; the hint holds the end of its log.
        """
        with self._home.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "agent", "run", "--config", self._home.config),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # the spectator's Ctrl-C is for the demo
            )
        try:
            async with asyncio.timeout(READY_S):
                while not await asyncio.to_thread(self._is_ready):
                    self._check_running()
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise self._failed(f"the daemon was not ready within {READY_S:.0f} s") from None

    async def stop(self) -> None:
        """Ask it to stop and wait; kill it when it does not. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), STOP_S)
        except TimeoutError:
            process.kill()
            await process.wait()

    def check(self) -> None:
        """Raise NotReady when the daemon has ended by itself."""
        self._check_running()

    def _is_ready(self) -> bool:
        with contextlib.suppress(AgentError, OSError):
            self.client.get_json("/readyz")
            return True
        return False

    def _check_running(self) -> None:
        if self._process is None or self._process.returncode is not None:
            raise self._failed("the daemon ended by itself")

    def _failed(self, message: str) -> NotReady:
        lines = self._home.log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return NotReady(message, where=str(self._home.log), hint="\n".join(["Its log:", *lines]))
