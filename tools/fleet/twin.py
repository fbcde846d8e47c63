"""`edge-fleet twin`: what is desired of a device, and what it reports."""

import asyncio
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from agent.cli.options import emit_json
from agent.errors import BadPayload, BadRequest, NotFound, TooSlow
from agent.sync.download import LinkThread, connected
from agent.sync.link import Incoming, Link
from agent.sync.merge_patch import merge
from agent.sync.topics import Topics
from agent.sync.twin import Document
from tools.fleet.brokers import broker_options, link_settings
from tools.fleet.inbox import send

device_option = click.option("--device", required=True, help="Whose.")


@click.group()
def twin() -> None:
    """Show and change the settings of a device while it runs."""


@twin.command()
@broker_options
@device_option
def show(prefix: str, device: str, **broker: Any) -> None:
    """Show what a device last reported, and what is desired of it."""
    topics = Topics(prefix, device)
    with connected(link_settings(**broker)) as thread:
        desired, reported = _retained(thread, topics)
    if not desired and not reported:
        raise NotFound("nothing is known of this device", where=device)
    emit_json({"reported": reported, "desired": desired})


@twin.command("set")
@click.argument("changes", nargs=-1, required=True, metavar="PATH=VALUE...")
@broker_options
@device_option
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="For the device's report; 0 for none.",
)
def set_command(
    changes: Sequence[str], prefix: str, device: str, wait: float, **broker: Any
) -> None:
    """Change settings, for example sync.bandwidth_bit_s=64000; PATH=null takes one back."""
    topics = Topics(prefix, device)
    patch = parse_changes(changes)
    with connected(link_settings(**broker)) as thread:
        desired, _ = _retained(thread, topics)
        version = desired.get("version", 0) + 1
        document = Document(version, desired=merge(desired.get("desired", {}), patch))
        payload = msgspec.json.encode(document)
        reports = Reports(topics)
        thread.run(reports.listen(thread.link))
        thread.run(send(thread.link, topics.desired, payload, retain=True))
        if not wait:
            click.echo(f"{device} has version {version} as soon as it is connected.")
            return
        emit_json(thread.run(reports.wait(version, wait)))


class Reports:
    """What the device reports from now on."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._came: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def listen(self, link: Link) -> None:
        """Subscribe."""
        link.subscribe(self._topics.reported, self._receive)

    async def wait(self, version: int, seconds: float) -> dict[str, Any]:
        """The report on a version.

        Raises:
            TooSlow: it did not come in time.
        """
        try:
            async with asyncio.timeout(seconds):
                while (report := await self._came.get()).get("desired") != version:
                    pass
        except TimeoutError:
            hint = "The settings take effect as soon as the device is connected"
            raise TooSlow(f"no report within {seconds:g} s", hint=hint) from None
        return report

    def _receive(self, incoming: Incoming) -> None:
        self._came.put_nowait(_object(incoming.payload))
        incoming.ack()


def parse_changes(texts: Sequence[str]) -> dict[str, Any]:
    """``sync.bandwidth_bit_s=64000`` and the like as one merge patch.

    Raises:
        BadRequest: a text has no ``=``.
    """
    patch: dict[str, Any] = {}
    for text in texts:
        path, equals, value = text.partition("=")
        if not equals or not path:
            raise BadRequest("must be PATH=VALUE", where=text)
        *parents, name = path.split(".")
        place = patch
        for parent in parents:
            place = place.setdefault(parent, {})
        place[name] = _value(value)
    return patch


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.MsgspecError:
        return text


def _retained(thread: LinkThread, topics: Topics) -> tuple[dict[str, Any], dict[str, Any]]:
    desired, reported = thread.fetch([topics.desired, topics.reported])
    return _object(desired or b"{}"), _object(reported or b"{}")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(payload, type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise BadPayload(f"the broker holds something else: {error}", where="twin") from None
