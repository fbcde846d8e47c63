"""An operator's repository and a device that trusts it, for tests."""

from dataclasses import dataclass
from pathlib import Path

from agent.registry import InstalledModel, Registry
from agent.registry.trial import try_model
from agent.types import ModelRef
from tests.fakes.tuf_repository import FakeRepository
from tests.support.packages import small_package
from tools.fleet.repository import Repository

NOW = 1_800_000_000.0  # 2027-01-15, seconds since the epoch
DAY = 86_400.0  # seconds


class WallClock:
    """A clock whose wall time is what a test says; the rest of it is not asked."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Fleet:
    """Both sides.

    Attributes:
        directory: everything is below it.
        operator: the clock of the workstation.
        clock: the clock of the device.
        repository: the operator's.
        registry: the device's, provisioned.
    """

    directory: Path
    operator: WallClock
    clock: WallClock
    repository: Repository
    registry: Registry

    @property
    def address(self) -> str:
        return str(self.directory / "repository")

    @property
    def models(self) -> Path:
        return self.directory / "models"

    def publish(
        self, version: str = "1.0.0", name: str = "negator", role: str = "targets"
    ) -> ModelRef:
        package = self.directory / "packages" / name / version
        if not package.exists():
            small_package(package, version=version, name=name)
        return self.repository.publish(package, role=role)

    def install(self, version: str | None = None, name: str = "negator") -> InstalledModel:
        return self.registry.install(self.address, name, version)

    def source(self) -> FakeRepository:
        """What is published now, to be spoilt."""
        return FakeRepository.of(self.directory / "repository")

    def restarted(self) -> Registry:
        """A registry as a new process would have it."""
        return Registry(self.models, clock=self.clock, trial=try_model)


def make_fleet(directory: Path, **options: int) -> Fleet:
    operator, clock = WallClock(), WallClock()
    repository = Repository.create(
        directory / "repository", directory / "keys", clock=operator, **options
    )
    # In this process: the one of its own that devices use has tests of its own.
    registry = Registry(directory / "models", clock=clock, trial=try_model)
    registry.provision(repository.root_bytes())
    return Fleet(directory, operator, clock, repository, registry)
