"""`edge-agent models`: which models this device has, and which may run."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agent.cli.options import config_option, emit_json, emit_table, find_config, json_option
from agent.cli.repositories import from_option, opened
from agent.errors import AgentError, NotFound, NotReachable, Refused
from agent.ids import key_names, short_key
from agent.types import ModelRef

if TYPE_CHECKING:
    from agent.config.settings import Config
    from agent.registry.registry import InstalledModel, Registry


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def models(ctx: click.Context, config_path: Path | None, as_json: bool) -> None:
    """Install, list, show, verify, activate, roll back and remove models; refresh trust.

    Without a command: list them. Works with the daemon running or not.
    """
    ctx.obj = config_path
    if ctx.invoked_subcommand is None:
        _list(_registry(config_path), as_json)


@models.command("list")
@json_option
@click.pass_obj
def list_command(config_path: Path | None, as_json: bool) -> None:
    """List installed models; the active version of each is marked."""
    _list(_registry(config_path), as_json)


@models.command()
@click.argument("name")
@click.option("--version", help="A semantic version.  [default: the newest published]")
@from_option
@json_option
@click.pass_obj
def install(
    config_path: Path | None, name: str, version: str | None, repository: str | None, as_json: bool
) -> None:
    """Verify a model of the repository, try its golden cases here, and activate it."""
    config = _config(config_path)
    registry = _open(config)
    with opened(config, repository, registry, name) as source:
        installed = registry.install(source, name, version)
    _show_change(installed, "is verified, installed and active", as_json, config)


@models.command()
@from_option
@click.pass_obj
def refresh(config_path: Path | None, repository: str | None) -> None:
    """Take in new keys of the operator, and renew what the installed models rest on.

    Installs nothing. Says which installed versions a removed key leaves without trust.
    """
    config = _config(config_path)
    registry = _open(config)
    with opened(config, repository, registry) as source:
        registry.refresh(source)
    click.echo("What the repository signs now is known to this device.")
    for model in registry.list():
        try:
            registry.open(model.ref.name, model.ref.version)
        except Refused as error:
            click.echo(f"No longer usable: {error} [{error.code}]")


@models.command()
@click.argument("name")
@click.option(
    "--quantizer", help="The edge-quantize to convert with.  [default: this environment's]"
)
@json_option
@click.pass_obj
def add(config_path: Path | None, name: str, quantizer: str | None, as_json: bool) -> None:
    """Fetch a known model, convert, sign with a development key, and install it.

    Known models: minilm, smollm2. For development: devices of a fleet do not trust this machine's key.
    """
    from agent.cli.add import add_model

    config = _config(config_path)
    home = config.device.state / "development"
    installed = add_model(_open(config), name, home, quantizer)
    _show_change(installed, "is verified, installed and active", as_json, config)


@models.command("provision")
@click.argument("root", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.pass_obj
def provision_command(config_path: Path | None, root: Path) -> None:
    """Give this device its trust root (root.json), once."""
    _registry(config_path).provision(root.read_bytes())
    click.echo("The device now trusts this root and nothing else.")


@models.command()
@click.argument("name")
@click.argument("version")
@json_option
@click.pass_obj
def activate(config_path: Path | None, name: str, version: str, as_json: bool) -> None:
    """Make an installed version the one that answers."""
    config = _config(config_path)
    registry = _open(config)
    registry.activate(ModelRef(name, version))
    _show_change(_find(registry, name, version), "is active", as_json, config)


@models.command()
@click.argument("name")
@json_option
@click.pass_obj
def rollback(config_path: Path | None, name: str, as_json: bool) -> None:
    """Go back to the version that was active before. Needs no network."""
    config = _config(config_path)
    registry = _open(config)
    registry.rollback(name)
    _show_change(_find(registry, name, None), "is active again", as_json, config)


@models.command()
@click.argument("name")
@click.argument("version")
@click.pass_obj
def remove(config_path: Path | None, name: str, version: str) -> None:
    """Remove an installed version that is not active."""
    _registry(config_path).remove(ModelRef(name, version))
    click.echo(f"{name} {version} is removed.")


@models.command()
@click.argument("name")
@click.option("--version", help="A semantic version.  [default: the active one]")
@json_option
@click.pass_obj
def verify(config_path: Path | None, name: str, version: str | None, as_json: bool) -> None:
    """Check signatures and every byte of an installed model, as each load does."""
    model = _registry(config_path).open(name, version)
    if as_json:
        emit_json({"name": model.ref.name, "version": model.ref.version, "signers": model.signers})
    else:
        click.echo(f"{model.ref} is what {key_names(model.signers)} signed.")


@models.command()
@click.option("--repair", is_flag=True, help="Mend what can be mended without a repository.")
@json_option
@click.pass_context
def fsck(ctx: click.Context, repair: bool, as_json: bool) -> None:
    """Look through all that is stored: every byte, every signature, what nobody needs.

    Exit status 1 when something is left to do.
    """
    from agent.cli.fsck import show_findings

    findings = _registry(ctx.obj).check(repair=repair)
    if show_findings(findings, repair=repair, as_json=as_json):
        ctx.exit(1)


@models.command()
@click.argument("name")
@click.option("--version", help="A semantic version.  [default: the active one]")
@json_option
@click.pass_obj
def show(config_path: Path | None, name: str, version: str | None, as_json: bool) -> None:
    """Show a model's tensors, evaluation card, limits of use and signer."""
    from agent.cli.model_card import card, print_card

    registry = _registry(config_path)
    model = registry.open(name, version)
    installed = _find(registry, model.ref.name, model.ref.version)
    details = card(model.manifest, installed)
    emit_json(details) if as_json else print_card(details)


def _config(config_path: Path | None) -> "Config":
    from agent.config.read import load

    return load(find_config(config_path), os.environ)


def _open(config: "Config") -> "Registry":
    from agent.clock import SystemClock
    from agent.registry import Registry

    return Registry(config.device.models, clock=SystemClock())


def _registry(config_path: Path | None) -> "Registry":
    return _open(_config(config_path))


def _find(registry: "Registry", name: str, version: str | None) -> "InstalledModel":
    for model in registry.list():
        if model.ref.name == name and (
            model.ref.version == version or (not version and model.active)
        ):
            return model
    raise NotFound("is not installed", where=f"{name} {version or ''}".strip())


def _list(registry: "Registry", as_json: bool) -> None:
    installed = registry.list()
    if as_json:
        emit_json([_plain(model) for model in installed])
    elif not installed:
        click.echo("No model is installed. Install one with: edge-agent models install NAME")
    else:
        emit_table(
            ("MODEL", "VERSION", "ACTIVE", "SIZE", "SIGNED BY", "VERIFIED"),
            [_row(model) for model in installed],
        )


def _row(model: "InstalledModel") -> tuple[object, ...]:
    signers = ", ".join(map(short_key, model.signers))
    active = "yes" if model.active else ""
    size = f"{model.size / 1024:.0f} KiB"
    return model.ref.name, model.ref.version, active, size, signers, _when(model.verified_at)


def _plain(model: "InstalledModel") -> dict[str, Any]:
    return {
        "name": model.ref.name,
        "version": model.ref.version,
        "active": model.active,
        "size": model.size,
        "signers": list(model.signers),
        "verified_at": _when(model.verified_at),
    }


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _show_change(model: "InstalledModel", what: str, as_json: bool, config: "Config") -> None:
    if as_json:
        emit_json(_plain(model))
    else:
        click.echo(f"{model.ref} {what}, signed by {key_names(model.signers)}.")
        click.echo(_taken_over(model.ref, config.api.socket), nl=False)


def _taken_over(ref: ModelRef, socket_path: Path) -> str:
    """Have a running daemon that has the model loaded load this version; says what came of it.

    It follows activations by itself, a moment later: here it is waited for.
    """
    from agent.api.client import Client

    client = Client(socket_path)
    try:
        found = client.get_json("/api/models")["models"]
        versions = {m["version"] for m in found if m["name"] == ref.name and m["state"] == "READY"}
        if not versions:
            return ""
        client.request("POST", f"/v2/repository/models/{ref.name}/load", b"{}")
    except NotReachable:
        return ""
    except AgentError as error:
        return f"The running daemon goes on with the version it has loaded: {error}\n"
    return "The running daemon answers with it from now on.\n"
