"""`edge-fleet escalations`: what devices ask, and the answers that people give in a terminal."""

import getpass
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import msgspec

from agent.cli.options import emit_json, emit_table, json_option
from agent.sync.download import LinkThread, connected
from agent.sync.link import LinkSettings
from agent.sync.topics import Topics
from tools.fleet.brokers import broker_options, link_settings
from tools.fleet.inbox import Collector, Inbox, Item, answer_payload, send, until_quiet

SESSION_S = 7 * 86_400  # for which the broker keeps what comes while nobody listens

inbox_option = click.option(
    "--inbox",
    type=click.Path(path_type=Path, dir_okay=False),
    default=lambda: Path(click.get_app_dir("edge-fleet")) / "escalations.json",
    envvar="EDGE_FLEET_INBOX",
    help="File that remembers them.  [default: in the user's configuration directory]",
)
device_option = click.option("--device", default="", help="Of this device only.")


@click.group()
def escalations() -> None:
    """List what devices ask, and answer it.

    The broker keeps what comes while nobody listens, for a week after the first list.
    """


@escalations.command("list")
@broker_options
@inbox_option
@device_option
@click.option("--all", "everything", is_flag=True, help="Answered ones too.")
@click.option("--follow", is_flag=True, help="Go on printing what comes; end it with Ctrl-C.")
@json_option
def list_command(
    inbox: Path,
    prefix: str,
    device: str,
    everything: bool,
    follow: bool,
    as_json: bool,
    **broker: Any,
) -> None:
    """List escalations that wait for an answer."""
    kept = Inbox(inbox)
    collector = Collector(prefix, kept)
    with connected(_session(link_settings(**broker), prefix), prepare=collector) as thread:
        thread.run(until_quiet(thread.link))
        items = kept.items(device, everything=everything)
        emit_json([msgspec.to_builtins(item) for item in items]) if as_json else _table(items)
        while follow:
            item = thread.run(collector.news.get())
            if device in {"", item.device}:
                click.echo(f"{item.id}  {item.device}  {_question(item)}")


@escalations.command()
@click.argument("id_", metavar="ID")
@inbox_option
@device_option
def show(id_: str, inbox: Path, device: str) -> None:
    """Show all that a device sent with an escalation; ID may be its beginning."""
    emit_json(msgspec.to_builtins(Inbox(inbox).find(id_, device)))


@escalations.command()
@click.argument("id_", metavar="ID")
@click.argument("answer", required=False)
@broker_options
@inbox_option
@device_option
@click.option("--by", default=getpass.getuser, help="Who answers.  [default: the user's name]")
@click.option("--as-json", "is_json", is_flag=True, help="ANSWER is JSON, not a text.")
def answer(
    id_: str, answer: str | None, prefix: str, inbox: Path, device: str, by: str, is_json: bool,
    **broker: Any,
) -> None:  # fmt: skip
    """Answer an escalation; ID may be its beginning, ANSWER is asked for when it is left out."""
    kept = Inbox(inbox)
    session = _session(link_settings(**broker), prefix)
    with connected(session, prepare=Collector(prefix, kept)) as thread:
        target = _target(thread, kept, id_, device)
        text = answer if answer is not None else click.prompt(f"Answer to {target.id}")
        payload = answer_payload(text, by, is_json=is_json)
        topic = Topics(prefix, target.device).answer(target.id)
        thread.run(send(thread.link, topic, payload))
        kept.note(topic, payload)
    click.echo(f"{target.device} has the answer to {target.id} as soon as it is connected.")


def _target(thread: LinkThread, kept: Inbox, id_: str, device: str) -> Item:
    """The case to answer: from the inbox, or exactly as it was named together with its device."""
    thread.run(until_quiet(thread.link))
    known = [i for i in kept.items(device, everything=True) if i.id.startswith(id_)]
    if not known and device:
        return Item(device, id_, {})
    item = kept.find(id_, device)
    if not item.answered:
        click.echo(f"{item.device} asks: {_question(item)}")
    return item


def _session(settings: LinkSettings, prefix: str) -> LinkSettings:
    """A session that the broker keeps, one for each prefix and workstation."""
    name = f"{settings.client_id}-inbox-{prefix.replace('/', '-')}"[:128]
    return replace(settings, client_id=name, session_expiry_s=SESSION_S)


def _table(items: list[Item]) -> None:
    if not items:
        click.echo("Nothing waits for an answer.")
        return
    rows = [
        (i.id, i.device, i.body.get("time", ""), i.body.get("reason", i.body.get("kind", "")),
         _question(i), _shown(i.answer) if i.answered else "")
        for i in items
    ]  # fmt: skip
    emit_table(("ID", "DEVICE", "SINCE", "WHY", "QUESTION", "ANSWER"), rows)


def _question(item: Item) -> str:
    """The case in one line."""
    context = item.body.get("context") or {}
    if question := context.get("question"):
        return _shown(question)
    if sensors := item.body.get("sensors"):
        driver = sensors[0]
        about = f"{driver.get('name')} is {driver.get('direction')}"
        return f"{item.body.get('stream', '')}: warning, {about} (score {item.body.get('score')})"
    parts = [item.body.get("model", ""), _shown(context.get("output", ""))]
    return " ".join(part for part in parts if part) or "-"


def _shown(value: Any, width: int = 80) -> str:
    """A value in one line; what a device sent must not steer the terminal."""
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    clean = "".join(char if char.isprintable() else " " for char in text)
    return clean if len(clean) <= width else f"{clean[: width - 1]}…"
