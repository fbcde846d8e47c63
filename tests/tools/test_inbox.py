"""The operator's inbox: what devices asked, kept and answered."""

import json
from pathlib import Path

import pytest

from agent.errors import BadRequest, NotFound
from tools.fleet.inbox import KEPT, Inbox, Place, answer_payload, place_of


def ask(inbox: Inbox, id_: str, device: str = "d1", **body: str) -> None:
    inbox.note(f"edge/d/{device}/escalation/{id_}", json.dumps({"id": "m", **body}).encode())


@pytest.mark.parametrize(
    ("topic", "place"),
    [
        ("edge/d/d1/escalation/q", Place("d1", "q", False)),
        ("plant/hall/d/d1/escalation/q/answer", Place("d1", "q", True)),
        ("edge/d/d1/telemetry/escalation", None),
        ("edge/d/escalation/q", None),
        ("", None),
    ],
)
def test_topics_are_told_apart(topic: str, place: Place | None) -> None:
    assert place_of(topic) == place


def test_a_question_waits_until_it_is_answered_and_outlives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "inbox" / "escalations.json"
    inbox = Inbox(path)
    ask(inbox, "q-1")
    ask(inbox, "q-1")
    ask(inbox, "q-2", "d2")
    inbox.note("edge/d/d1/escalation/q-1/answer", answer_payload("nine", "ann", is_json=False))
    again = Inbox(path)
    assert [item.id for item in again.items()] == ["q-2"]
    answered = again.find("q-1")
    assert (answered.answer, answered.by) == ("nine", "ann")


def test_the_beginning_of_an_id_is_enough_when_it_names_one(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "i.json")
    for id_, device in (("abc-1", "d1"), ("abc-2", "d2"), ("abc", "d1")):
        ask(inbox, id_, device)
    assert inbox.find("abc").id == "abc"
    assert inbox.find("abc-", "d2").id == "abc-2"
    with pytest.raises(BadRequest, match="several"):
        inbox.find("abc-")
    with pytest.raises(NotFound):
        inbox.find("x")


def test_what_is_no_question_is_passed_over(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path / "i.json")
    inbox.note("edge/d/d1/escalation/q", b"\xff not JSON")
    inbox.note("edge/d/d1/escalation/q", b"[]")
    ask(inbox, "q", kind="cleared")
    assert inbox.items(everything=True) == []


def test_a_device_that_asks_without_end_fills_no_disk(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("tools.fleet.inbox.KEPT", 5)
    inbox = Inbox(tmp_path / "i.json")
    for number in range(9):
        ask(inbox, f"q-{number}")
    assert [item.id for item in inbox.items()] == [f"q-{n}" for n in range(4, 9)]
    assert KEPT == 1000


@pytest.mark.parametrize(("text", "is_json"), [("{", True), ("x" * 70_000, False)])
def test_an_answer_that_no_device_would_take_is_refused_here(text: str, is_json: bool) -> None:
    with pytest.raises(BadRequest):
        answer_payload(text, "ann", is_json=is_json)
