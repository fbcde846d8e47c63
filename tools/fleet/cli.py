"""`edge-fleet`: keys, signing and publishing, on the operator's workstation.

Every command takes the repository's and the keys' directories; both default to the working
directory, so that in the place where `init` was run the commands need no option. Exit statuses are
those of edge-agent.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from agent import __version__
from agent.cli import run_command
from agent.cli.options import emit_json, emit_table, json_option
from agent.errors import BadRequest
from agent.ids import short_key
from agent.types import ModelRef
from tools.fleet.brokers import broker_options, link_settings
from tools.fleet.escalations import escalations
from tools.fleet.orders import command, command_key
from tools.fleet.passphrases import Passphrases, Pins
from tools.fleet.repository import Repository
from tools.fleet.twin import twin

F = TypeVar("F", bound=Callable[..., Any])


def _directory_option(name: str, default: str, help_text: str) -> Callable[[F], F]:
    kind = click.Path(path_type=Path, file_okay=False)
    variable = f"EDGE_FLEET_{name.upper()}"
    return click.option(
        f"--{name}", type=kind, default=default, envvar=variable, show_default=True, help=help_text
    )


def repository_options(command: F) -> F:
    """``--repository`` and ``--keys``."""
    keys = _directory_option("keys", "keys", "Directory of the private keys at hand.")
    repository = _directory_option(
        "repository", "repository", "Directory that devices install from."
    )
    return repository(keys(command))


scheme_option = click.option(
    "--scheme",
    type=click.Choice(["ed25519", "ecdsa"]),
    default="ed25519",
    show_default=True,
    help="Of the new keys; ecdsa is NIST P-256.",
)


def origin_options(command: F) -> F:
    """``--scheme`` and ``--key``: where a role's key comes from."""
    address = click.option(
        "--key",
        "address",
        help="A key in a token or a cloud, by its address.  [default: a new file]",
    )
    return scheme_option(address(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edge-fleet")
def cli() -> None:
    """Sign and publish models for a fleet of edge-agent devices.

    Key files are encrypted with a passphrase, asked for or taken from EDGE_FLEET_PASSPHRASE. A key
    may also stay in a hardware token or a cloud: --key hsm:…, awskms:…, gcpkms:…, azurekms:…, hv:…
    """


@cli.command()
@repository_options
@scheme_option
@click.option(
    "--root-keys",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many root keys to make.",
)
@click.option(
    "--root-threshold",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="How many must sign a root.",
)
@click.option(
    "--key",
    "addresses",
    multiple=True,
    metavar="ROLE=ADDRESS",
    help="A key in a token or a cloud instead of a new file; may be repeated.",
)
@click.option(
    "--no-passphrase", is_flag=True, help="Leave key files unencrypted: development only."
)
def init(
    repository: Path, keys: Path, no_passphrase: bool, addresses: tuple[str, ...], **options: Any
) -> None:
    """Make an empty repository and a key for each role."""
    passphrase = _no_passphrase if no_passphrase else Passphrases(confirm=True)
    by_role = _by_role(addresses)
    Repository.create(
        repository, keys, passphrase=passphrase, pin=Pins(), addresses=by_role, **options
    )
    root = repository / "metadata" / "1.root.json"
    click.echo(f"The repository is {repository}, its keys are in {keys}.")
    click.echo(f"Give devices their trust: edge-agent models provision {root}")
    click.echo("Move the root keys to a medium that is kept in a safe.")


@cli.command()
@click.argument("package", type=click.Path(path_type=Path, exists=True, file_okay=False))
@repository_options
@click.option("--role", default="targets", show_default=True, help="Who signs it.")
def publish(package: Path, repository: Path, keys: Path, role: str) -> None:
    """Sign a package, a directory with model.toml, and make it visible to devices."""
    ref = _open(repository, keys).publish(package, role=role)
    click.echo(f"{ref} is published. Install it: edge-agent models install {ref.name}")


@cli.command()
@click.argument("name")
@click.argument("version")
@repository_options
def withdraw(name: str, version: str, repository: Path, keys: Path) -> None:
    """Publish a version no longer; devices that have it keep it."""
    _open(repository, keys).withdraw(ModelRef(name, version))
    click.echo(f"{name} {version} is withdrawn.")


@cli.command()
@repository_options
def refresh(repository: Path, keys: Path) -> None:
    """Renew the timestamp, and what is half way to its expiry. For cron."""
    click.echo(f"Renewed: {', '.join(_open(repository, keys).refresh())}")


@cli.command()
@repository_options
@json_option
def inspect(repository: Path, keys: Path, as_json: bool) -> None:
    """Show roles, versions, expiry, keys and published models."""
    opened = _open(repository, keys)
    roles, published = opened.inspect(), opened.published()
    if as_json:
        models = [{"name": r.name, "version": r.version, "role": s} for r, s in published.items()]
        emit_json({"roles": [msgspec.to_builtins(role) for role in roles], "models": models})
        return
    headers = ("ROLE", "VERSION", "EXPIRES", "SIGNATURES", "KEYS (* AT HAND)")
    emit_table(headers, [_role_row(role) for role in roles])
    click.echo()
    rows = [(ref.name, ref.version, role) for ref, role in published.items()]
    emit_table(("MODEL", "VERSION", "SIGNED BY ROLE"), rows)


@cli.command()
@click.option(
    "--usb",
    "destination",
    required=True,
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the stick is mounted.",
)
@repository_options
def export(destination: Path, repository: Path, keys: Path) -> None:
    """Copy the repository to a USB stick."""
    target = _open(repository, keys).export(destination)
    click.echo(f"The repository is in {target}.")
    click.echo("On the device: edge-agent models install NAME --from WHERE-THE-STICK-IS-MOUNTED")


@cli.command()
@repository_options
@broker_options
@click.option("--all", "everything", is_flag=True, help="Send also what the broker should have.")
def mirror(repository: Path, keys: Path, everything: bool, **options: Any) -> None:
    """Put the repository into a broker's retained messages, where devices fetch it from.

    Sends what changed since the last time; run it after publish, withdraw and refresh.
    """
    link = link_settings(**options)
    done = _open(repository, keys).mirror(link, options["prefix"], everything=everything)
    size = f"{done.sent_bytes / 1e6:.1f} MB"
    click.echo(f"{link.brokers[0]}: {done.sent} messages sent ({size}), {done.removed} removed.")
    click.echo(f"On the device: edge-agent models install NAME --from {link.brokers[0]}")


@cli.command()
@click.argument("role")
@click.argument("patterns", nargs=-1, required=True)
@repository_options
@origin_options
def delegate(
    role: str,
    patterns: tuple[str, ...],
    *,
    repository: Path,
    keys: Path,
    scheme: str,
    address: str | None,
) -> None:
    """Let a team, ROLE, sign models whose names match PATTERNS, and no others."""
    keyid = _open(repository, keys, new=True).delegate(role, patterns, address or scheme)
    click.echo(f"{role} signs {', '.join(patterns)} with the key {short_key(keyid)}.")
    click.echo(f"Give the team its key file and: edge-fleet publish PACKAGE --role {role}")


@cli.group()
def key() -> None:
    """Add, replace and revoke keys. A new root follows; devices take it at their next install."""


@key.command()
@click.argument("role")
@repository_options
@origin_options
def add(role: str, repository: Path, keys: Path, scheme: str, address: str | None) -> None:
    """Give a role one more key."""
    keyid = _open(repository, keys, new=True).add_key(role, address or scheme)
    click.echo(f"{role} has the new key {short_key(keyid)}.")


@key.command()
@click.argument("role")
@repository_options
@origin_options
def rotate(role: str, repository: Path, keys: Path, scheme: str, address: str | None) -> None:
    """Replace all keys of a role by one new key."""
    keyid, old = _open(repository, keys, new=True).rotate_key(role, address or scheme)
    gone = ", ".join(map(short_key, old))
    click.echo(f"{role} has the new key {short_key(keyid)}; no longer trusted: {gone}.")


@key.command()
@click.argument("keyid")
@repository_options
def revoke(keyid: str, repository: Path, keys: Path) -> None:
    """Trust a key no longer, in any role; KEYID as `inspect` shows it."""
    roles = _open(repository, keys).revoke_key(keyid)
    click.echo(f"{short_key(keyid)} is trusted no longer. It was a key of: {', '.join(roles)}.")


@key.command()
@click.argument("role")
@click.argument("signatures", type=click.IntRange(min=1))
@repository_options
def threshold(role: str, signatures: int, repository: Path, keys: Path) -> None:
    """How many of a role's keys must sign."""
    _open(repository, keys).set_threshold(role, signatures)
    click.echo(f"{role} needs {signatures} signatures from now on.")


cli.add_command(escalations)
cli.add_command(command)
cli.add_command(command_key)
cli.add_command(twin)


def _by_role(addresses: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in addresses:
        role, separator, address = item.partition("=")
        if not separator:
            raise BadRequest("expected ROLE=ADDRESS", where=f"--key {item}")
        found.setdefault(role, []).append(address)
    return found


def _no_passphrase(_name: str) -> None:
    return None


def _open(repository: Path, keys: Path, *, new: bool = False) -> Repository:
    return Repository(repository, keys, passphrase=_passphrases(keys, new=new), pin=Pins())


def _passphrases(keys: Path, *, new: bool) -> Callable[[str], bytes | None]:
    """A new key is protected as its neighbours are: development keys stay without a passphrase."""
    plain = any(b"ENCRYPTED" not in path.read_bytes()[:64] for path in keys.glob("*.pem"))
    return _no_passphrase if new and plain else Passphrases(confirm=False)


def _role_row(role: Any) -> tuple[object, ...]:
    marks = (f"{short_key(k)}{'*' if k in role.at_hand else ''}" for k in role.keys)
    signatures = f"{role.threshold} of {len(role.keys)}"
    return role.role, role.version, role.expires, signatures, " ".join(marks)


def main() -> None:
    """Entry point of the command `edge-fleet`."""
    run_command(cli, "edge-fleet")
