"""What was published and stored once must be published and read the same for ever."""

import json
from pathlib import Path

import pytest

from agent.pipelines.entries import Entry, Single
from agent.pipelines.messages import Sender
from agent.pipelines.spec import PipelineSpec
from agent.pipelines.stream import Stream
from agent.pipelines.summary import Summary
from agent.sync.topics import Topics
from agent.types import Message, Rows
from tests.fakes.clock import FakeClock
from tests.fakes.detector import FakeDetector
from tests.pipelines.test_messages import alarm
from tests.pipelines.test_stream import rows
from tests.pipelines.test_summary import outcome

FORMATS = Path(__file__).resolve().parents[1] / "formats"
MODEL = "pump-anomaly 1.0.0"


def messages() -> list[Message]:
    """One of each class."""
    sender = Sender(Topics("edge", "dev-1"), FakeClock())
    part = Summary(
        start=1.7e9, end=1.7e9 + 59, rows=60, readings=480, windows=60,
        lowest=0.1, highest=0.9, total=30.0, dropped={"late": 2},
    )  # fmt: skip
    return [
        sender.alarm("pump-1", MODEL, alarm()),
        sender.learned("pump-1", MODEL, 1.7e9),
        sender.summary("pump-1", MODEL, part, outcome([1.7e9])),
    ]


def state() -> bytes:
    """Of a stream that has learned, warned and holds a single reading."""
    items: list[Rows | Single] = [rows(0, 12), rows(12, value=50.0), Single("b", 20.0, 1.0)]
    return stream().process([Entry(item, lambda _: None) for item in items]).state


def stream() -> Stream:
    sender = Sender(Topics("edge", "dev-1"), FakeClock())
    return Stream("pump-1", PipelineSpec("pumps", "pump"), MODEL, lambda _: FakeDetector(), sender)


@pytest.mark.parametrize("number", range(3))
def test_payloads_are_those_that_were_published_first(number: int) -> None:
    """Keys, their order and every value but the id, which is new each time."""
    message = messages()[number]
    sample = (FORMATS / "messages" / f"{message.kind}.json").read_text()
    known = json.loads(sample)
    made = json.loads(message.payload)
    assert list(made) == list(known)
    assert {**made, "id": ""} == {**known, "id": ""}


def test_the_first_stored_state_can_still_be_read() -> None:
    resumed = stream()
    resumed.resume((FORMATS / "streams" / "0001.msgpack").read_bytes())
    status = resumed.status()
    assert (status.rows, status.windows, status.warning) == (13, 3, "alarm-1")
    assert resumed.pending
