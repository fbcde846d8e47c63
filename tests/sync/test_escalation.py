"""A question is stored with its message, and its answer reaches whoever waits, once."""

import asyncio
import json

import pytest

from agent.clock import SystemClock
from agent.errors import BadRequest, NotFound, StorageFailed
from agent.store import audit
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.sync.asking import parse_asked
from agent.sync.escalation import Escalations
from agent.sync.policy import EscalationSettings
from agent.sync.topics import Topics
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics
from tests.fakes.link import FakeLink
from tests.sync.conftest import until

TOPICS = Topics("edge", "dev-1")


class Desk:
    """Escalations over a real database and a link without a network."""

    def __init__(self, database: Database, settings: EscalationSettings | None = None) -> None:
        self.database = database
        self.outbox = Outbox(database)
        self.link = FakeLink()
        self.events = EventBus()
        self.metrics = Metrics()
        self.acked: list[str] = []
        self.escalations = Escalations(
            database, topics=TOPICS, clock=SystemClock(), events=self.events,
            metrics=self.metrics, settings=settings,
        )  # fmt: skip
        self.escalations.start(self.link)  # type: ignore[arg-type]

    async def ask(self, id_: str = "q-1", owner: int | None = 1000, **fields):
        return await self.escalations.ask(parse_asked({"id": id_, **fields}), owner)

    def answer(self, id_: str = "q-1", payload: bytes = b'{"answer": 9, "by": "ann"}') -> None:
        self.link.receive(TOPICS.answer(id_), payload, lambda: self.acked.append(id_))


@pytest.fixture
async def desk(tmp_path):
    database = Database.open(tmp_path / "agent.db", clock=SystemClock())
    made = Desk(database)
    await made.outbox.start()
    yield made
    await made.escalations.close()
    await database.close()


async def test_a_question_is_one_case_and_one_message_however_often_it_is_asked(desk):
    first, new = await desk.ask(context={"question": "?"})
    again, repeated = await desk.ask(context={"question": "?"})
    assert (new, repeated) == (True, False)
    assert first == again
    (row,) = await desk.outbox.peek()
    assert (row.message.kind, row.message.topic) == ("escalation", "edge/d/dev-1/escalation/q-1")
    assert json.loads(row.message.payload)["id"] != "q-1"  # ids of messages are unique in the fleet


async def test_asked_again_after_the_answer_it_is_answered_at_once(desk):
    await desk.ask()
    desk.answer()
    await until(lambda: desk.acked)
    case, new = await desk.ask()
    assert (new, case.state, case.answer, case.source) == (False, "answered", b"9", "ann")


async def test_an_id_cannot_be_used_by_another_user_or_for_another_question(desk):
    await desk.ask()
    with pytest.raises(BadRequest):
        await desk.ask(owner=1001)
    with pytest.raises(BadRequest):
        await desk.ask(input="other")
    with pytest.raises(NotFound):
        await desk.escalations.get("q-1", 1001)


async def test_the_answer_reaches_everybody_who_waits(desk):
    case, _ = await desk.ask()
    waiters = [asyncio.create_task(desk.escalations.wait(case, 20)) for _ in range(3)]
    await until(lambda: desk.escalations.waiting == 1)
    desk.answer()
    assert {(found.state, found.answer) for found in await asyncio.gather(*waiters)} == {
        ("answered", b"9")
    }
    assert desk.escalations.waiting == 0


async def test_who_waits_in_vain_gets_the_case_as_it_stands(desk):
    case, _ = await desk.ask()
    assert (await desk.escalations.wait(case, 0.01)).state == "open"
    assert desk.escalations.waiting == 0


async def test_over_the_bound_nobody_more_may_wait(tmp_path):
    database = Database.open(tmp_path / "agent.db", clock=SystemClock())
    desk = Desk(database, EscalationSettings(max_waiting=1))
    await desk.outbox.start()
    first, second = (await desk.ask("a"))[0], (await desk.ask("b"))[0]
    waiter = asyncio.create_task(desk.escalations.wait(first, 20))
    await until(lambda: desk.escalations.waiting == 1)
    assert (await desk.escalations.wait(second, 20)).state == "open"
    desk.answer("a")
    assert (await waiter).state == "answered"
    await database.close()


async def test_an_answer_is_acknowledged_only_when_it_is_on_the_disk(desk, monkeypatch):
    await desk.ask()
    real, failing = desk.database.write, True

    async def write(operation, *, urgent=False):
        if failing:
            raise StorageFailed("full")
        return await real(operation, urgent=urgent)

    monkeypatch.setattr("agent.sync.escalation.RETRY_S", 0.01)
    monkeypatch.setattr(desk.database, "write", write)
    desk.answer()
    await asyncio.sleep(0.05)
    assert desk.acked == []
    failing = False
    await until(lambda: desk.acked)
    assert (await desk.escalations.get("q-1")).state == "answered"


@pytest.mark.parametrize("payload", [b"nine", b"{}", b"x" * 100_000, b"\xff\xfe"])
async def test_what_is_no_answer_is_acknowledged_counted_and_told(desk, payload):
    """Left with the broker it would come back with every connection."""
    await desk.ask()
    with desk.events.subscribe() as events:
        desk.answer("q-1", payload)
        assert (await anext(events)).event.type == "escalation.refused"
    assert desk.acked == ["q-1"]
    assert (await desk.escalations.get("q-1")).state == "open"


async def test_an_answer_to_nothing_and_a_second_answer_are_passed_over(desk):
    await desk.ask()
    for id_ in ("nothing", "q-1", "q-1"):
        desk.answer(id_)
    await until(lambda: len(desk.acked) == 3)
    counted = desk.metrics.counter(
        "edge_agent_escalation_answers_total", "Answers that came", ("outcome",)
    )
    assert counted.series() == {("passed over",): 2.0, ("taken",): 1.0}


async def test_everything_is_in_the_log_of_what_was_decided(desk):
    await desk.ask()
    desk.answer()
    await until(lambda: desk.acked)
    rows = await desk.database.read(lambda c: c.execute("SELECT kind FROM audit").fetchall())
    assert rows == [("escalation.opened",), ("escalation.answered",)]
    assert (await desk.database.read(audit.verify)).broken is None


async def test_cases_outlive_a_restart(desk, tmp_path):
    await desk.ask()
    await desk.database.close()
    database = Database.open(tmp_path / "agent.db", clock=SystemClock())
    again = Desk(database)
    again.answer()
    await until(lambda: again.acked)
    assert (await again.escalations.get("q-1")).state == "answered"
    await database.close()
