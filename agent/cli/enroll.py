"""`edge-agent enroll`: a key, a request, and the device's certificate."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agent.cli.options import config_option, find_config
from agent.errors import BadConfig

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from agent.identity.enrolment import Enrolment


@click.command()
@config_option
@click.option("--est", help="The authority's address, instead of the configuration's.")
@click.option(
    "--request",
    "request_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Only make a key and write the request for its certificate here.",
)
@click.option(
    "--certificate",
    "certificate_file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Take the certificate that answers the request.",
)
@click.option("--renew", is_flag=True, help="Renew now; the daemon does so in time by itself.")
def enroll(
    config_path: Path | None,
    est: str | None,
    request_file: Path | None,
    certificate_file: Path | None,
    renew: bool,
) -> None:
    """Get this device a certificate of its own.

    From an authority that speaks EST (RFC 7030), configured under [enrolment], in one step; or by hand
    in two: --request writes what the authority signs, --certificate takes what it signed. The key is made
    on the device and never leaves it.
    """
    if request_file and certificate_file:
        raise BadConfig("give --request or --certificate, not both", where="enroll")
    enrolment = _enrolment(config_path, est)
    if request_file:
        _write_request(request_file, enrolment.request())
        click.echo(f"Wrote {request_file}: have it signed, then")
        click.echo("  edge-agent enroll --certificate SIGNED.crt")
        return
    if certificate_file:
        found = enrolment.accept(certificate_file.read_bytes(), str(certificate_file))
    else:
        found = enrolment.renew() if renew else enrolment.enroll()
    _report(found, enrolment)


def _enrolment(config_path: Path | None, est: str | None) -> "Enrolment":
    import dataclasses

    from agent.config.read import load
    from agent.identity.enrolment import Enrolment
    from agent.identity.folder import IdentityFolder

    config = load(find_config(config_path), os.environ)
    settings = config.enrolment
    if est:
        settings = dataclasses.replace(settings, est=est)
    return Enrolment(settings, config.device.id, IdentityFolder(config.device.identity))


def _write_request(path: Path, pem: bytes) -> None:
    try:
        path.write_bytes(pem)
    except OSError as error:
        raise BadConfig(f"cannot be written: {error.strerror}", where=str(path)) from error


def _report(certificate: "Certificate", enrolment: "Enrolment") -> None:
    click.echo(f"Enrolled as {certificate.subject.rfc4514_string()}")
    click.echo(f"  issued by  {certificate.issuer.rfc4514_string()}")
    click.echo(f"  valid      until {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
    click.echo(f"  kept in    {enrolment.folder.directory}")
    click.echo("A broker with mqtts:// or wss:// is shown it from the daemon's next start on.")
