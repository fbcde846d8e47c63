"""Which repository a command reads: the address that was given, or the configuration's."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from agent.errors import BadConfig, NotFound

if TYPE_CHECKING:
    from agent.config.settings import Config
    from agent.registry.registry import Registry
    from agent.sync.settings import LinkSettings
    from agent.trust.source import Source

_BROKERS = {"mqtt", "mqtts", "ws", "wss"}

from_option = click.option(
    "--from",
    "repository",
    metavar="REPOSITORY",
    help="A directory, https://… or mqtt://….  [default: the configuration's]",
)


@contextmanager
def opened(
    config: "Config", repository: str | None, registry: "Registry", name: str = ""
) -> "Iterator[Source]":
    """The repository, as long as the block lasts.

    Args:
        config: names the repository where none is given, and what the device shows of itself.
        repository: the address, or None.
        registry: what it holds of the model `name` already need not come again from a broker.
        name: of the model that is to be installed.

    Raises:
        NotFound: no repository is given or configured.
        BadConfig: its address is none.
        NotReachable: the broker does not answer.
    """
    address = repository or config.models.repository
    if not address:
        hint = 'Set repository = "…" in the table models, or use --from'
        raise NotFound("no repository is configured", where="models.repository", hint=hint)
    if urlsplit(address).scheme in _BROKERS:
        with _broker(config, address, registry, name) as source:
            yield source
    else:
        yield _file_or_web(config, address)


def _file_or_web(config: "Config", address: str) -> "Source":
    from agent.trust.source import open_source

    models = config.models
    return open_source(
        address,
        ca_file=models.ca_file,
        certificate_file=models.certificate_file,
        key_file=models.key_file,
    )


@contextmanager
def _broker(config: "Config", address: str, registry: "Registry", name: str) -> "Iterator[Source]":
    from agent.sync.download import connected
    from agent.trust.retained import RetainedSource

    with connected(_link(config, address)) as thread:
        prefix = config.device.topic_prefix
        yield RetainedSource(thread.fetch, prefix, registry.known_chunks(name))


def _link(config: "Config", address: str) -> "LinkSettings":
    """A connection beside the daemon's own; what identifies the device goes to its own brokers only."""
    from agent.sync.settings import LinkSettings

    parts = urlsplit(address)
    if parts.path.strip("/") and parts.scheme.startswith("mqtt"):
        hint = "The topics begin with device.topic_prefix"
        raise BadConfig("a broker's address has no path", where=address, hint=hint)
    client_id = f"{config.device.id}-models"
    ours = config.sync
    if ours is not None and address in ours.brokers:
        return dataclasses.replace(
            ours, brokers=(address,), client_id=client_id, session_expiry_s=0
        )
    return LinkSettings(
        brokers=(address,), client_id=client_id, session_expiry_s=0, ca_file=config.models.ca_file
    )
