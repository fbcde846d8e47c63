"""Commands: carried out once, answered through the outbox, refused when they are not the operator's."""

import asyncio
import json
from dataclasses import replace

import pytest

from agent.errors import BadPayload, NotFound, StorageFailed
from agent.store import commands as commands_table
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.sync.commands import MAX_QUEUED, Commands, only
from agent.sync.orders import Claims, CommandSettings
from agent.sync.topics import Topics
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics
from tests.fakes.clock import FakeClock
from tests.fakes.link import FakeLink
from tests.sync.conftest import until
from tests.sync.test_orders import KEY, OTHER
from tools.fleet.orders import public_line, sign

TOPICS = Topics("edge", "dev-1")
WALL = 1.8e9
SETTINGS = CommandSettings(keys=(public_line(KEY),), per_second=100.0)


class Device:
    """Commands over a real database; the verbs count how often they ran."""

    def __init__(self, path, settings: CommandSettings = SETTINGS, not_before: float = 0.0) -> None:
        self.clock = FakeClock(WALL)
        self.database = Database.open(path, clock=self.clock)
        self.outbox = Outbox(self.database)
        self.link = FakeLink()
        self.events = EventBus()
        self.metrics = Metrics()
        self.acked: list[str] = []
        self.ran: list[tuple[str, dict]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.commands = Commands(
            self.database, topics=TOPICS, clock=self.clock, events=self.events,
            metrics=self.metrics, settings=settings, not_before=lambda: not_before,
        )  # fmt: skip
        self.commands.start(self.link)  # type: ignore[arg-type]

    def serve(self) -> None:
        self.commands.serve({"ping": self.ping, "fail": self.fail})

    async def ping(self, arguments):
        self.ran.append(("ping", arguments))
        await self.gate.wait()
        return {"pong": len(self.ran)}

    async def fail(self, arguments):
        raise NotFound("no such thing", where="thing")

    def send(
        self, id_: str = "c-1", name: str = "ping", key=KEY, topic: str = "", **changes
    ) -> None:
        claims = Claims("dev-1", name, id_, WALL - 1, WALL + 60)
        for field, value in changes.items():
            setattr(claims, field, value)
        topic = topic or TOPICS.command(name, id_)
        self.link.receive(topic, sign(key, claims), lambda: self.acked.append(id_))

    async def answers(self) -> list[dict]:
        rows = await self.outbox.pending(100, kind="report")
        return [json.loads(row.message.payload) for row in rows]

    def count(self, outcome: str) -> float:
        counted = self.metrics.counter(
            "edge_agent_commands_total", "Commands that came", ("outcome",)
        )
        return counted.series().get((outcome,), 0.0)

    async def close(self) -> None:
        await self.commands.close()
        await self.database.close()


@pytest.fixture
async def device(tmp_path):
    made = Device(tmp_path / "agent.db")
    await made.outbox.start()
    made.serve()
    yield made
    await made.close()


async def test_a_command_is_carried_out_and_answered(device):
    device.send(args={"x": 1})
    await until(lambda: device.acked)
    assert device.ran == [("ping", {"x": 1})]
    (answer,) = await device.answers()
    assert (answer["ok"], answer["result"], answer["command_id"]) == (True, {"pong": 1}, "c-1")
    (row,) = await device.outbox.pending(9, kind="report")
    assert row.message.topic == "edge/d/dev-1/command/ping/c-1/result"


async def test_a_repeat_is_answered_and_not_done_again(device):
    """Sent again by the broker, or replayed by somebody who recorded it."""
    device.send()
    await until(lambda: device.acked)
    device.send()
    await until(lambda: len(device.acked) == 2)
    assert len(device.ran) == 1
    first, second = await device.answers()
    assert first["result"] == second["result"]
    assert first["id"] != second["id"]


async def test_a_repeat_after_a_restart_is_not_done_again(device, tmp_path):
    device.send()
    await until(lambda: device.acked)
    await device.close()
    again = Device(tmp_path / "agent.db")
    again.serve()
    again.send()
    await until(lambda: again.acked)
    assert again.ran == []
    await again.close()


async def test_a_repeat_while_it_is_carried_out_waits_for_the_same_answer(device):
    device.gate.clear()
    device.send()
    await until(lambda: device.ran)
    device.send()
    await until(lambda: device.acked == ["c-1"])
    device.gate.set()
    await until(lambda: len(device.acked) == 2)
    assert len(device.ran) == len(await device.answers()) == 1


async def test_an_id_used_again_with_other_arguments_is_refused(device):
    device.send()
    await until(lambda: device.acked)
    device.send(args={"other": True})
    await until(lambda: len(device.acked) == 2)
    assert len(device.ran) == 1
    assert (await device.answers())[1]["error"]["code"] == "trust.refused"


@pytest.mark.parametrize(
    "attack",
    [
        {"key": OTHER},
        {"aud": "dev-2"},
        {"topic": "edge/d/dev-1/command/relearn/c-1"},
        {"topic": "edge/d/dev-1/command/ping/c-2"},
    ],
)
async def test_what_the_operator_did_not_send_here_is_refused_and_not_answered(device, attack):
    with device.events.subscribe() as events:
        device.send(**attack)
        assert (await anext(events)).event.type == "command.refused"
    await until(lambda: device.acked)
    assert device.ran == await device.answers() == []


async def test_without_keys_every_command_is_refused(tmp_path):
    device = Device(tmp_path / "agent.db", CommandSettings())
    device.serve()
    device.send()
    await until(lambda: device.acked)
    assert device.ran == []
    await device.close()


async def test_an_expired_command_is_answered_as_such_and_not_done(device):
    device.clock.advance(120)
    device.send()
    await until(lambda: device.acked)
    assert device.ran == []
    (answer,) = await device.answers()
    assert answer["error"]["code"] == "trust.expired"


async def test_a_clock_set_back_does_not_revive_an_expired_command(tmp_path):
    """The repository's metadata says that it is later than the device's clock says."""
    device = Device(tmp_path / "agent.db", not_before=WALL + 3600)
    device.serve()
    device.clock.jump(-10 * 365 * 86_400)
    device.send()
    await until(lambda: device.acked)
    assert device.ran == []
    await device.close()


async def test_a_forgotten_command_cannot_come_again_under_any_clock(device, monkeypatch):
    monkeypatch.setattr(commands_table, "MAX_COMMANDS", 1)
    device.send("c-1")
    await until(lambda: device.acked)
    device.send("c-2", exp=WALL + 90)
    await until(lambda: len(device.acked) == 2)
    device.clock.jump(-10 * 365 * 86_400)
    device.send("c-1")
    await until(lambda: len(device.acked) == 3)
    assert len(device.ran) == 2
    device.send("c-3", exp=WALL + 80)  # a clock that was wrong locks nobody out
    await until(lambda: len(device.acked) == 4)
    assert len(device.ran) == 3


async def test_a_flood_is_dropped_unread_and_counted(tmp_path):
    device = Device(tmp_path / "agent.db", replace(SETTINGS, per_second=1.0))
    device.serve()
    for number in range(500):
        device.send(f"c-{number}", key=OTHER)
    assert device.count("dropped") > 490
    device.clock.advance(5)
    device.send("c-good")
    await until(lambda: "c-good" in device.acked)
    assert len(device.ran) == 1
    await device.close()


async def test_more_commands_than_may_wait_are_told_so(device):
    device.gate.clear()
    device.send("c-first")
    await until(lambda: device.ran)
    for number in range(MAX_QUEUED + 3):
        device.send(f"c-{number}")
    await until(lambda: len(device.acked) == 3)
    assert {a["error"]["code"] for a in await device.answers()} == {"limit.rate"}
    device.gate.set()
    await until(lambda: len(device.acked) == MAX_QUEUED + 4)
    assert len(device.ran) == MAX_QUEUED + 1


async def test_a_command_that_fails_is_answered_with_its_error(device):
    device.send(name="fail")
    await until(lambda: device.acked)
    (answer,) = await device.answers()
    assert answer["error"] == {
        "code": "request.not_found", "message": "no such thing", "where": "thing",
    }  # fmt: skip


async def test_an_unknown_command_is_answered_with_those_that_are_known(device):
    device.send(name="explode")
    await until(lambda: device.acked)
    (answer,) = await device.answers()
    assert "fail, ping" in answer["error"]["hint"]


async def test_a_command_that_takes_too_long_ends(tmp_path):
    device = Device(tmp_path / "agent.db", replace(SETTINGS, timeout_s=0.1))
    device.serve()
    device.gate.clear()
    device.send()
    await until(lambda: device.acked)
    (answer,) = await device.answers()
    assert answer["error"]["code"] == "limit.time"
    await device.close()


async def test_a_command_waits_for_a_disk_that_fails_and_is_not_acknowledged_meanwhile(
    device, monkeypatch
):
    real, failing = device.database.write, True

    async def write(operation, *, urgent=False):
        if failing:
            raise StorageFailed("full")
        return await real(operation, urgent=urgent)

    monkeypatch.setattr(device.database, "write", write)
    device.send()
    await until(lambda: device.ran)
    await asyncio.sleep(0.02)
    assert device.acked == []
    failing = False
    device.clock.advance(10)
    await until(lambda: device.acked)
    assert len(device.ran) == 1


async def test_commands_that_come_before_the_daemon_is_ready_wait_for_it(tmp_path):
    device = Device(tmp_path / "agent.db")
    device.send()
    await asyncio.sleep(0.05)
    assert device.acked == []
    device.serve()
    await until(lambda: device.acked)
    await device.close()


def test_arguments_of_a_command_are_checked():
    assert only({"n": 1}, n=int) == {"n": 1}
    for wrong in ({"n": "1"}, {"n": True}, {"m": 1}):
        with pytest.raises(BadPayload):
            only(wrong, n=int)
