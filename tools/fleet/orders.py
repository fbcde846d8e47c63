"""`edge-fleet command` and `command-key`: signed commands, and the answers of devices."""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from agent.cli.options import emit_json
from agent.clock import SystemClock
from agent.errors import AgentError, BadKey, BadRequest, TooSlow
from agent.ids import uuid7
from agent.sync.download import connected
from agent.sync.link import Incoming, Link
from agent.sync.orders import Claims, encode_part, key_name, signing_input
from agent.sync.topics import Topics
from tools.fleet.brokers import broker_options, link_settings
from tools.fleet.inbox import send
from tools.fleet.keys import Passphrase, create_private, load_private
from tools.fleet.keys import no_passphrase as unprotected
from tools.fleet.passphrases import Passphrases


@click.command("command-key")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--no-passphrase", is_flag=True, help="Leave a new key unencrypted: development only."
)
def command_key(path: Path, no_passphrase: bool) -> None:
    """Make a key for commands in PATH, or show the one that is there.

    Prints the line for the configuration of the devices that shall obey it.
    """
    passphrase: Passphrase = (
        unprotected if no_passphrase else Passphrases(confirm=not path.exists())
    )
    if path.exists():
        private = _ed25519(load_private(path, passphrase), path)
    else:
        private = Ed25519PrivateKey.generate()
        create_private(path, private, passphrase)
        click.echo(f"# {path} is a new key. Keep it where commands are given, and nowhere else.")
    click.echo("[commands]")
    click.echo(f'keys = ["{public_line(private)}"]')


@click.command()
@click.argument("name")
@click.argument("arguments", nargs=-1, metavar="[NAME=VALUE]...")
@broker_options
@click.option("--device", required=True, help="Who shall do it.")
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    envvar="EDGE_FLEET_COMMAND_KEY",
    help="The operator's private key; command-key makes one.",
)
@click.option(
    "--id", "id_", default="", help="To give the same command again.  [default: a new one]"
)
@click.option(
    "--expires",
    type=click.FloatRange(min=0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="The command is worthless after this.",
)
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="For the answer; 0 sends only.",
)
def command(
    name: str, arguments: Sequence[str], prefix: str, device: str, key: Path, id_: str,
    expires: float, wait: float, **broker: Any,
) -> None:  # fmt: skip
    """Have a device do something: ping, reload, relearn stream=NAME, logs lines=N, snapshot."""
    private = _ed25519(load_private(key, Passphrases(confirm=False)), key)
    now = time.time()
    claims = Claims(
        device, name, id_ or uuid7(SystemClock()), now, now + expires, parse_arguments(arguments)
    )
    token = sign(private, check(claims))
    exchange = Exchange(Topics(prefix, device), claims)
    with connected(link_settings(**broker), prepare=exchange.listen) as thread:
        answer = thread.run(exchange.run(thread.link, token, wait))
    if answer is None:
        click.echo(f"{device} has the command {claims.jti} as soon as it is connected.")
    elif answer["ok"]:
        emit_json(answer["result"])
    else:
        raise refused(answer["error"])


class Exchange:
    """One command and its answer."""

    def __init__(self, topics: Topics, claims: Claims) -> None:
        self._topic = topics.command(claims.cmd, claims.jti)
        self._result = topics.result(claims.cmd, claims.jti)
        self._answers: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def listen(self, link: Link) -> None:
        """Before the link connects."""
        link.subscribe(self._result, self._receive)

    async def run(self, link: Link, token: bytes, wait_s: float) -> dict[str, Any] | None:
        """Send it and wait; None when it was not waited for.

        Raises:
            TooSlow: no answer came in time; the command may be carried out all the same.
        """
        await send(link, self._topic, token)
        if not wait_s:
            return None
        try:
            async with asyncio.timeout(wait_s):
                return await self._answers.get()
        except TimeoutError:
            hint = "It is carried out as soon as the device is connected, until it expires"
            raise TooSlow(f"no answer within {wait_s:g} s", where=self._topic, hint=hint) from None

    def _receive(self, incoming: Incoming) -> None:
        try:
            self._answers.put_nowait(msgspec.json.decode(incoming.payload, type=dict[str, Any]))
        except msgspec.MsgspecError:
            click.echo("an answer came that cannot be read", err=True)
        incoming.ack()


def sign(private: Ed25519PrivateKey, claims: Claims) -> bytes:
    """The token that a device takes (RFC 7515, compact form)."""
    signed = signing_input(claims, key_name(_public(private)))
    return signed + b"." + encode_part(private.sign(signed))


def check(claims: Claims) -> Claims:
    """The claims as a device would read them.

    Raises:
        BadRequest: a device would refuse them.
    """
    try:
        return msgspec.json.decode(msgspec.json.encode(claims), type=Claims)
    except msgspec.ValidationError as error:
        raise BadRequest(f"no device would take this: {error}", where="command") from None


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """``name=value``; a value that is JSON is taken as such, any other as text.

    Raises:
        BadRequest: a text has no ``=``.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise BadRequest("must be NAME=VALUE", where=text)
        try:
            found[name] = msgspec.json.decode(value)
        except msgspec.MsgspecError:
            found[name] = value
    return found


def refused(fields: dict[str, Any]) -> AgentError:
    """The device's error as one of ours."""
    from agent.api.client import error_from

    return error_from(400, msgspec.json.encode(fields), None)


def public_line(private: Ed25519PrivateKey) -> str:
    """The public half as a device's configuration has it."""
    return f"ed25519:{encode_part(_public(private)).decode()}"


def _public(private: Ed25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _ed25519(private: object, path: Path) -> Ed25519PrivateKey:
    if not isinstance(private, Ed25519PrivateKey):
        raise BadKey("is no Ed25519 key", where=str(path), hint="edge-fleet command-key makes one")
    return private
