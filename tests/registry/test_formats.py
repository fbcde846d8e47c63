"""Every released layout of a repository, and of the registry on the disk, is read for ever."""

import shutil
from pathlib import Path

import pytest

from agent.registry import Registry
from tests.support.fleet import WallClock

FORMATS = Path(__file__).parents[1] / "formats"
LAYOUTS = sorted((FORMATS / "repository").iterdir())
STATES = sorted((FORMATS / "registry").iterdir())


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda path: path.name)
def test_a_device_of_today_installs_from_every_layout(layout: Path, tmp_path: Path) -> None:
    registry = Registry(tmp_path / "models", clock=WallClock())
    registry.provision((layout / "metadata" / "1.root.json").read_bytes())
    for name in ("negator", "team-model"):
        assert registry.install(str(layout), name).ref.version == "1.0.0"


@pytest.mark.parametrize("state", STATES, ids=lambda path: path.name)
def test_a_device_of_today_loads_what_an_older_release_installed(
    state: Path, tmp_path: Path
) -> None:
    shutil.copytree(state, tmp_path / "models")
    registry = Registry(tmp_path / "models", clock=WallClock())
    assert registry.provisioned
    assert registry.open("negator").ref.version == "1.0.0"
