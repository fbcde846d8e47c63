"""Devices with real models, driven from outside."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.broker import Mosquitto, mosquitto
from tests.support.device import ROOT, Device, device, install_models

#: A pipeline of the shipped model over every stream.
PIPELINE = """
[[pipeline]]
name = "pumps"
model = "pump-anomaly"
streams = ["*"]
"""

MakeDevice = Callable[..., Device]


@pytest.fixture(scope="session")
def pump_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of installed models with the shipped anomaly model."""
    return install_models(tmp_path_factory.mktemp("pump"), [ROOT / "models" / "pump-anomaly"])


@pytest.fixture
def make_device(tmp_path: Path, pump_models: Path) -> Iterator[MakeDevice]:
    """Makes devices that have the anomaly model; all are killed at the end."""
    with ExitStack() as stack:

        def make(
            config: str = PIPELINE, *, models: Path | None = pump_models, name: str = "d"
        ) -> Device:
            return stack.enter_context(device(tmp_path / name, config, models))

        yield make


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker that keeps its sessions over a kill."""
    with mosquitto(tmp_path / "broker") as running:
        yield running
