"""What commands share."""

import os
from pathlib import Path

import pytest

from agent.cli.options import as_typed


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """An installed edge-agent."""
    path = tmp_path / "bin" / "edge-agent"
    path.parent.mkdir()
    path.touch(mode=0o755)
    return path


def test_a_command_on_the_path_is_called_by_name(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    assert as_typed(str(program)) == "edge-agent"


def test_a_command_beside_the_path_is_called_by_its_place(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin")
    assert as_typed(str(program)) == str(program)


def test_another_installation_on_the_path_is_not_this_one(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other" / "edge-agent"
    other.parent.mkdir()
    other.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    assert as_typed(str(program)) == str(program)


def test_a_module_is_called_as_one(tmp_path: Path) -> None:
    module = tmp_path / "__main__.py"
    module.touch(mode=0o644)
    assert as_typed(str(module)) == "python -m agent"
