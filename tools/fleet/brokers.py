"""The options by which an operator names a broker, and what they come to."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from agent.sync.settings import LinkSettings

F = TypeVar("F", bound=Callable[..., Any])


def _option(name: str, help_text: str, **more: Any) -> Callable[[F], F]:
    variable = f"EDGE_FLEET_{name.upper().replace('-', '_')}"
    return click.option(f"--{name}", envvar=variable, help=help_text, **more)


def _file_option(name: str, help_text: str) -> Callable[[F], F]:
    kind = click.Path(path_type=Path, exists=True, dir_okay=False)
    return _option(name, help_text, type=kind, default=None)


_OPTIONS = (
    _option("mqtt", "The broker: mqtt://HOST, mqtts://HOST, ws(s)://HOST/PATH.", required=True, metavar="URL"),
    _option(
        "prefix", "First part of the topics, the devices' topic_prefix.", default="edge",
        show_default=True,
    ),
    _file_option("mqtt-ca", "Certificates to trust instead of the system's, PEM."),
    _file_option("mqtt-certificate", "A certificate of one's own, PEM."),
    _file_option("mqtt-key", "The certificate's private key, PEM."),
    _option("mqtt-user", "User name.", default=""),
    _file_option("mqtt-password-file", "File whose first line is the password."),
)  # fmt: skip


def broker_options(command: F) -> F:
    """``--mqtt``, ``--prefix`` and what a broker may ask for; each also from the environment."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def link_settings(
    *,
    mqtt: str,
    mqtt_ca: Path | None,
    mqtt_certificate: Path | None,
    mqtt_key: Path | None,
    mqtt_user: str,
    mqtt_password_file: Path | None,
    **_: object,
) -> LinkSettings:
    """The link that the options describe.

    Raises:
        BadConfig: the address is none, or a certificate lacks its key.
    """
    return LinkSettings(
        brokers=(mqtt,),
        client_id=f"edge-fleet-{socket.gethostname()}"[:128],
        username=mqtt_user,
        password_file=mqtt_password_file,
        ca_file=mqtt_ca,
        certificate_file=mqtt_certificate,
        key_file=mqtt_key,
        session_expiry_s=0,
    )
