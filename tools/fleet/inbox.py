"""Escalations that have come to this workstation, and which of them are answered.

The broker keeps what comes while nobody listens (a session of its own for each inbox), and the inbox
keeps it from then on, in one file.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from agent.errors import BadRequest, NotFound, NotReachable
from agent.registry.layout import write_atomically
from agent.sync.asking import MAX_ANSWER
from agent.sync.link import Incoming, Link

KEPT = 1000  # cases; the oldest are forgotten first
QUIET_S = 0.5  # without a message, after which the broker has sent what it kept


class Item(msgspec.Struct):
    """One escalation.

    Attributes:
        device: who asks.
        id: of the case.
        body: as it was sent.
        answer: None until somebody answered.
        by: who did.
    """

    device: str
    id: str
    body: dict[str, Any]
    answer: Any = None
    by: str = ""
    answered: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """What a topic below ``{prefix}/d`` is about."""

    device: str
    id: str
    is_answer: bool


def place_of(topic: str) -> Place | None:
    """The place of an escalation's or an answer's topic; None for any other."""
    levels = topic.split("/")
    is_answer = levels[-1] == "answer"
    levels = levels[:-1] if is_answer else levels
    if len(levels) < 4 or levels[-2] != "escalation" or levels[-4] != "d":
        return None
    return Place(levels[-3], levels[-1], is_answer)


class Inbox:
    """The cases, newest last; saved with every change."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._items: dict[tuple[str, str], Item] = {}
        if path.exists():
            for item in msgspec.json.decode(path.read_bytes(), type=list[Item]):
                self._items[item.device, item.id] = item

    def items(self, device: str = "", *, everything: bool = False) -> list[Item]:
        """Cases that wait for an answer, or all of them; of one device or of all."""
        return [
            item
            for item in self._items.values()
            if device in {"", item.device} and (everything or not item.answered)
        ]

    def find(self, id_: str, device: str = "") -> Item:
        """The case whose id is, or begins with, what was typed.

        Raises:
            NotFound: there is none.
            BadRequest: there are several.
        """
        found = [i for i in self.items(device, everything=True) if i.id.startswith(id_)]
        exact = [item for item in found if item.id == id_]
        found = exact or found
        if not found:
            raise NotFound("there is no such escalation", where=id_, hint="See: escalations list")
        if len(found) > 1:
            raise BadRequest("several escalations begin so", where=id_, hint="Name the device too")
        return found[0]

    def note(self, topic: str, payload: bytes) -> Item | None:
        """Take a message in; the item when it is news to this inbox."""
        place = place_of(topic)
        if place is None:
            return None
        try:
            body = msgspec.json.decode(payload, type=dict[str, Any])
        except msgspec.MsgspecError:
            return None
        key = (place.device, place.id)
        if place.is_answer:
            self._note_answer(key, body)
            return None
        if key in self._items or body.get("kind") == "cleared":
            return None
        self._items[key] = item = Item(place.device, place.id, body)
        while len(self._items) > KEPT:
            del self._items[next(iter(self._items))]
        self._save()
        return item

    def _note_answer(self, key: tuple[str, str], body: dict[str, Any]) -> None:
        item = self._items.get(key)
        if item is not None and not item.answered:
            item.answer, item.by, item.answered = body.get("answer"), str(body.get("by", "")), True
            self._save()

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomically(self._path, msgspec.json.encode(list(self._items.values())))


def answer_payload(text: str, by: str, *, is_json: bool) -> bytes:
    """An answer as devices take it.

    Raises:
        BadRequest: the text is no JSON although it should be, or it is too long.
    """
    value: Any = text
    if is_json:
        try:
            value = msgspec.json.decode(text)
        except msgspec.MsgspecError as error:
            raise BadRequest(f"is not JSON: {error}", where="answer") from None
    payload = msgspec.json.encode({"answer": value, "by": by})
    if len(payload) > MAX_ANSWER:
        raise BadRequest(f"is over {MAX_ANSWER} bytes", where="answer")
    return payload


class Collector:
    """Takes every escalation and answer of a fleet into an inbox.

    Attributes:
        news: what was not there before.
    """

    def __init__(self, prefix: str, inbox: Inbox) -> None:
        self.news: asyncio.Queue[Item] = asyncio.Queue()
        self._prefix = prefix
        self._inbox = inbox

    def __call__(self, link: Link) -> None:
        """Subscribe; before the link connects, or what the session kept goes to nobody."""
        link.subscribe(f"{self._prefix}/d/+/escalation/#", self._handle)

    def _handle(self, incoming: Incoming) -> None:
        if (item := self._inbox.note(incoming.topic, incoming.payload)) is not None:
            self.news.put_nowait(item)
        incoming.ack()


async def until_quiet(link: Link, quiet_s: float = QUIET_S) -> None:
    """Return once nothing has come for a while."""
    seen = -1
    while seen != link.received:
        seen = link.received
        await asyncio.sleep(quiet_s)


async def send(link: Link, topic: str, payload: bytes, *, retain: bool = False) -> None:
    """Publish; returns when the broker has it.

    Raises:
        AgentError: it refused, or the connection ended.
    """
    told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def acknowledged(error: Exception | None) -> None:
        if told.done():
            return
        told.set_exception(error) if error else told.set_result(None)

    if not link.publish(topic, payload, retain=retain, on_ack=acknowledged):
        raise NotReachable("the connection is lost", where=link.broker)
    await told
