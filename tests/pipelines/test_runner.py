"""Score, commit, acknowledge: the order, and what happens when one of them fails."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.clock import SystemClock
from agent.errors import (
    AgentError,
    Altered,
    BadManifest,
    BadReading,
    EngineFailed,
    EngineMissing,
    NotFound,
    NotReady,
    StorageFailed,
    TooMany,
)
from agent.pipelines.align import AlignSettings
from agent.pipelines.entries import Receipt, Single
from agent.pipelines.loading import FIRST_PAUSE_S
from agent.pipelines.runner import Pipelines
from agent.pipelines.spec import PipelineLimits, PipelineSpec
from agent.store import cases, streams
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.store.streams import MAX_STATE
from agent.sync.topics import Topics
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics
from agent.types import Rows
from tests.fakes.detector import LEARN_ROWS, FakeDetector, FakeModels


class Time(SystemClock):
    """The machine's clock, and some more."""

    def __init__(self) -> None:
        self.later = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.later


class Device:
    """Pipelines on a real store, with a detector that can be told to fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clock = Time()
        self.models = FakeModels()
        self.detectors: list[FakeDetector] = []
        self.before_push: Callable[[Rows], None] = lambda _: None
        self.specs = (PipelineSpec(name="pumps", model="pump", streams=("pump-*",)),)
        self.limits = PipelineLimits()

    async def start(self) -> Pipelines:
        self.metrics, self.events = Metrics(), EventBus()
        self.database = Database.open(self.path, clock=SystemClock())
        self.outbox = Outbox(self.database)
        await self.outbox.start()
        self.pipelines = Pipelines(
            self.specs,
            models=self.models,  # type: ignore[arg-type]
            database=self.database,
            clock=self.clock,
            metrics=self.metrics,
            events=self.events,
            topics=Topics("edge", "dev"),
            make_detector=self._make,
            limits=self.limits,
        )
        await self.pipelines.start()
        return self.pipelines

    async def stop(self) -> None:
        await self.pipelines.close()
        await self.database.close()

    async def restart(self) -> Pipelines:
        await self.stop()
        return await self.start()

    async def sent(self, kind: Any = "telemetry") -> list[dict[str, Any]]:
        queued = await self.outbox.pending(1000, kind=kind)
        return [json.loads(row.message.payload) for row in queued]

    def count(self, name: str, *labels: str) -> float:
        metric = next(m for m in self.metrics if m.name == f"edge_agent_{name}")
        return metric.series().get(labels, 0)  # type: ignore[attr-defined,no-any-return]

    def _before(self, rows: Rows) -> None:
        self.before_push(rows)

    def _make(self, model: object, spec: PipelineSpec) -> FakeDetector:
        self.detectors.append(FakeDetector(self._before))
        return self.detectors[-1]


@pytest.fixture
async def device(tmp_path: Path) -> AsyncIterator[Device]:
    found = Device(tmp_path / "agent.db")
    await found.start()
    yield found
    await found.stop()


def rows(start: float, count: int, value: float = 1.0, stream: str = "pump-1") -> Rows:
    return Rows(
        stream, ("a", "b"), start + np.arange(count, dtype=np.float64), np.full((count, 2), value)
    )


async def learn(pipelines: Pipelines) -> None:
    await pipelines.submit(rows(0, LEARN_ROWS))


class FullDisk:
    """Makes the database refuse to grow, as a full disk does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def __aenter__(self) -> None:
        await self._pages("PRAGMA max_page_count = 1")

    async def __aexit__(self, *_: object) -> None:
        await self._pages("PRAGMA max_page_count = 1073741823")

    async def _pages(self, statement: str) -> None:
        def apply(connection: sqlite3.Connection) -> None:
            connection.execute(statement).fetchall()

        await self._database.write(apply)


async def test_a_receipt_says_what_became_of_the_rows(device: Device) -> None:
    assert await device.pipelines.submit(rows(0, LEARN_ROWS + 3)) == Receipt(13, {}, 3, 0)
    assert await device.pipelines.submit(rows(10, 5)) == Receipt(2, {"not_later": 3}, 2, 0)


async def test_what_a_receipt_says_is_on_the_disk(device: Device) -> None:
    await learn(device.pipelines)
    await device.pipelines.submit(rows(LEARN_ROWS, 1, value=50.0))
    connection = sqlite3.connect(device.path)
    kinds = connection.execute("SELECT count(*) FROM outbox").fetchone()
    states = connection.execute("SELECT stream FROM stream_states").fetchall()
    connection.close()
    assert kinds == (2,)
    assert states == [("anomaly/pump-1",)]


async def test_a_stream_goes_on_after_a_restart_where_it_was(device: Device) -> None:
    await device.pipelines.submit(rows(0, LEARN_ROWS + 5))
    pipelines = await device.restart()
    (status,) = pipelines.status()
    assert (status.stream, status.phase, status.windows, status.readings) == (
        "pump-1",
        "watching",
        5,
        30,
    )
    assert await pipelines.submit(rows(LEARN_ROWS + 3, 4)) == Receipt(2, {"not_later": 2}, 2, 0)


async def test_a_state_of_another_model_starts_the_stream_afresh_and_is_counted(
    device: Device,
) -> None:
    await learn(device.pipelines)
    device.models.versions["pump"] = "2.0.0"
    pipelines = await device.restart()
    (status,) = pipelines.status()
    assert (status.phase, status.progress, status.model) == ("learning", 0.0, "pump 2.0.0")
    assert device.count("streams_afresh_total") == 1


async def test_a_state_that_is_rubbish_starts_the_stream_afresh(device: Device) -> None:
    await learn(device.pipelines)

    def spoil(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE stream_states SET state = x'00ff00'")

    await device.database.write(spoil)
    pipelines = await device.restart()
    assert device.count("streams_afresh_total") == 1
    assert (await pipelines.submit(rows(0, 2))).accepted == 2


async def test_alarms_learning_and_summaries_are_sent_once(device: Device) -> None:
    await device.pipelines.submit(rows(0, LEARN_ROWS))
    await device.pipelines.submit(rows(LEARN_ROWS, 2, value=50.0))
    await device.pipelines.submit(rows(LEARN_ROWS + 2, 120, value=1.0))
    (learned,) = await device.sent("report")
    raised, cleared = await device.sent("escalation")
    first, second = await device.sent("telemetry")
    assert (learned["kind"], learned["stream"], learned["device"]) == ("learned", "pump-1", "dev")
    assert (raised["kind"], cleared["kind"]) == ("raised", "cleared")
    assert raised["alarm"] == cleared["alarm"]
    assert raised["at"] == "1970-01-01T00:00:10.000Z"
    assert [share["name"] for share in raised["sensors"]] == ["a", "b"]
    assert (first["rows"], first["readings"], first["windows"]) == (60, 120, 50)
    assert first["score"]["max"] == pytest.approx(9.8)
    assert (second["from"], second["rows"]) == ("1970-01-01T00:01:00.000Z", 60)


async def test_topics_are_those_of_the_device(device: Device) -> None:
    await device.pipelines.submit(rows(0, LEARN_ROWS))
    await device.pipelines.submit(rows(LEARN_ROWS, 1, value=50.0))
    await device.pipelines.submit(rows(100, 1))
    topics = [row.message.topic for row in await device.outbox.peek()]
    ids = [row.message.id for row in await device.outbox.peek()]
    assert topics == [
        f"edge/d/dev/escalation/{ids[0]}",
        f"edge/d/dev/escalation/{ids[1]}",
        "edge/d/dev/report/baseline",
        "edge/d/dev/telemetry/pump-1",
    ]


async def test_events_are_published_after_the_commit(device: Device) -> None:
    subscription = device.events.subscribe()
    await device.pipelines.submit(rows(0, LEARN_ROWS))
    await device.pipelines.submit(rows(LEARN_ROWS, 1, value=50.0))
    types = [(await anext(subscription)).event.type for _ in range(4)]
    assert types == ["stream.learned", "stream.scored", "anomaly.raised", "stream.scored"]


async def test_a_full_disk_refuses_and_leaves_the_stream_as_it_was(device: Device) -> None:
    await learn(device.pipelines)
    before = device.pipelines.status()
    async with FullDisk(device.database):
        with pytest.raises(StorageFailed):
            # A batch of thousands of summaries cannot fit into the pages that are left.
            await device.pipelines.submit(rows(LEARN_ROWS, 200_000, value=50.0))
    assert device.pipelines.status() == before
    again = await device.pipelines.submit(rows(LEARN_ROWS, 10, value=50.0))
    assert again == Receipt(10, {}, 10, 1)
    assert len(await device.sent("escalation")) == 1


async def test_an_engine_that_fails_refuses_these_rows_only(device: Device) -> None:
    await learn(device.pipelines)

    def fail(rows: Rows) -> None:
        if rows.values.max() > 40:
            raise EngineFailed("the runtime failed")

    device.before_push = fail
    results = await asyncio.gather(
        device.pipelines.submit(rows(10, 2)),
        device.pipelines.submit(rows(12, 2, value=50.0)),
        device.pipelines.submit(rows(14, 2)),
        return_exceptions=True,
    )
    assert [type(r) for r in results] == [Receipt, EngineFailed, Receipt]
    device.before_push = lambda _: None
    assert (await device.pipelines.submit(rows(16, 1))).accepted == 1
    assert device.pipelines.status()[0].windows == 5


async def test_a_detector_with_a_bug_is_an_error_of_the_engine(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Rows) -> None:
        raise ZeroDivisionError

    device.before_push = fail
    with pytest.raises(EngineFailed, match="detector failed"):
        await device.pipelines.submit(rows(0, 1))
    assert "the detector failed" in caplog.text
    device.before_push = lambda _: None
    assert (await device.pipelines.submit(rows(0, 1))).accepted == 1


async def test_small_offers_that_wait_together_are_scored_together(device: Device) -> None:
    told: list[Receipt | AgentError] = []
    for t in range(LEARN_ROWS + 20):
        device.pipelines.offer("pump-1", rows(t, 1), told.append)
    await device.pipelines.submit(rows(1000, 1))
    assert len(told) == LEARN_ROWS + 20
    assert all(isinstance(receipt, Receipt) for receipt in told)
    pushes = [len(rows) for detector in device.detectors for rows in detector.pushed]
    assert sum(pushes) == LEARN_ROWS + 21
    assert len(pushes) <= 3


async def test_a_source_that_fails_to_hear_does_not_keep_others_waiting(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    def deaf(_: object) -> None:
        raise ZeroDivisionError

    device.pipelines.offer("pump-1", rows(0, 1), deaf)
    assert (await device.pipelines.submit(rows(1, 1))).accepted == 1
    assert "failed to hear" in caplog.text


async def test_too_much_waiting_is_refused_with_a_pause(device: Device) -> None:
    device.limits = PipelineLimits(waiting_rows=20)
    pipelines = await device.restart()
    for t in range(20):
        pipelines.offer("pump-1", rows(t, 1), lambda _: None)
    with pytest.raises(TooMany) as caught:
        await pipelines.submit(rows(20, 1))
    assert 0 < caught.value.retry_after_s <= 30
    await eventually(lambda: not pipelines.waiting_rows)
    assert (await pipelines.submit(rows(21, 1))).accepted == 1


async def test_streams_are_bounded(device: Device) -> None:
    device.limits = PipelineLimits(streams=3)
    pipelines = await device.restart()
    for number in range(3):
        await pipelines.submit(rows(0, 1, stream=f"pump-{number}"))
    with pytest.raises(TooMany, match="3 streams"):
        await pipelines.submit(rows(0, 1, stream="pump-x"))
    assert (await pipelines.submit(rows(1, 1, stream="pump-0"))).accepted == 1


async def test_many_new_streams_at_once_are_bounded_too(device: Device) -> None:
    device.limits = PipelineLimits(streams=3)
    pipelines = await device.restart()
    results = await asyncio.gather(
        *(pipelines.submit(rows(0, 1, stream=f"pump-{n}")) for n in range(10)),
        return_exceptions=True,
    )
    assert sum(isinstance(result, Receipt) for result in results) == 3
    assert sum(isinstance(result, TooMany) for result in results) == 7


async def test_a_stream_that_no_pipeline_takes_is_refused(device: Device) -> None:
    with pytest.raises(NotFound, match="pump-") as caught:
        await device.pipelines.submit(rows(0, 1, stream="fan-1"))
    assert caught.value.where == "fan-1"


async def test_a_stream_that_cannot_be_a_topic_is_refused(device: Device) -> None:
    with pytest.raises(BadReading):
        await device.pipelines.submit(rows(0, 1, stream="pump-#"))


async def test_a_model_that_cannot_be_used_is_a_problem_of_the_device_not_of_the_sender(
    device: Device,
) -> None:
    """Readings are put off, whatever the reason, so that a source keeps them."""
    device.models.errors["pump"] = Altered("the file differs", where="model.onnx")
    pipelines = await device.restart()
    assert list(pipelines.problems) == ["pumps"]
    with pytest.raises(NotReady, match=r"the file differs.*trust\.altered") as caught:
        await pipelines.submit(rows(0, 1))
    assert caught.value.retry_after_s == FIRST_PAUSE_S


async def test_a_known_stream_survives_a_start_without_its_model(device: Device) -> None:
    await learn(device.pipelines)
    device.models.errors["pump"] = EngineMissing("no onnxruntime")
    pipelines = await device.restart()
    device.models.errors.clear()
    device.clock.later += FIRST_PAUSE_S
    receipt = await pipelines.submit(rows(LEARN_ROWS, 2))
    assert receipt.windows == 2
    assert pipelines.problems == {}


async def test_nothing_is_taken_after_close_and_what_waits_is_finished(device: Device) -> None:
    told: list[Receipt | AgentError] = []
    for t in range(50):
        device.pipelines.offer("pump-1", rows(t, 1), told.append)
    await device.pipelines.close()
    await device.pipelines.close()
    assert len(told) == 50
    with pytest.raises(NotReady):
        await device.pipelines.submit(rows(50, 1))


async def test_single_readings_become_rows_and_are_kept_before_their_row(device: Device) -> None:
    device.specs = (
        PipelineSpec("pumps", "pump", ("pump-*",), align=AlignSettings(period_s=1.0, wait_s=1.0)),
    )
    pipelines = await device.restart()
    await offered(pipelines, Single("a", 10.0, 1.0), Single("b", 10.5, 2.0))
    pipelines = await device.restart()
    await offered(pipelines, Single("a", 12.5, 3.0))
    assert device.detectors[-1].pushed[0].time.tolist() == [10.0]
    assert device.detectors[-1].pushed[0].values.tolist() == [[1.0, 2.0]]


async def test_the_last_row_of_silent_sensors_is_closed(device: Device) -> None:
    device.specs = (
        PipelineSpec("pumps", "pump", ("pump-*",), align=AlignSettings(period_s=0.1, wait_s=0.1)),
    )
    pipelines = await device.restart()
    await offered(pipelines, Single("a", 10.0, 1.0))
    await eventually(lambda: bool(device.detectors[-1].pushed))
    assert device.detectors[-1].pushed[0].values.tolist() == [[1.0]]


async def test_a_model_that_fails_to_load_in_an_unforeseen_way_is_told_and_ends_nothing(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    pipelines = device.pipelines
    device.models.errors["pump"] = ZeroDivisionError()  # type: ignore[assignment]
    with pytest.raises(NotReady, match="ZeroDivisionError"):
        await pipelines.submit(rows(0, 1))
    assert "a model failed to load" in caplog.text
    device.models.errors.clear()
    device.clock.later += FIRST_PAUSE_S
    assert (await pipelines.submit(rows(0, 1))).accepted == 1


async def test_a_model_of_another_task_puts_readings_off(device: Device) -> None:
    def refuse(*_: object) -> FakeDetector:
        raise BadManifest("is not a model of this task", where="parameters")

    device._make = refuse  # type: ignore[method-assign]
    pipelines = await device.restart()
    with pytest.raises(NotReady, match="not a model of this task"):
        await pipelines.submit(rows(0, 1))


async def test_a_stream_is_scored_while_another_is_on_its_way_to_the_disk(device: Device) -> None:
    """A commit that takes its time holds up its own stream only."""
    slow = threading.Event()

    def hold(_: sqlite3.Connection) -> None:
        slow.wait(10)

    await device.pipelines.submit(rows(0, 1, stream="pump-1"))
    await device.pipelines.submit(rows(0, 1, stream="pump-2"))
    blocked = asyncio.ensure_future(device.database.write(hold))
    first = asyncio.ensure_future(device.pipelines.submit(rows(1, 1, stream="pump-1")))
    await eventually(lambda: device.pipelines.status()[0].rows == 2)
    second = asyncio.ensure_future(device.pipelines.submit(rows(1, 1, stream="pump-2")))
    third = asyncio.ensure_future(device.pipelines.submit(rows(2, 1, stream="pump-1")))
    await eventually(lambda: device.pipelines.status()[1].rows == 2)
    assert device.pipelines.status()[0].rows == 2
    assert [task.done() for task in (first, second, third)] == [False] * 3
    slow.set()
    await blocked
    assert [r.accepted for r in await asyncio.gather(first, second, third)] == [1, 1, 1]


async def test_the_last_row_before_a_restart_is_closed_after_it(device: Device) -> None:
    device.specs = (
        PipelineSpec("pumps", "pump", ("pump-*",), align=AlignSettings(period_s=0.1, wait_s=0.1)),
    )
    pipelines = await device.restart()
    await offered(pipelines, Single("a", 10.0, 1.0))
    await device.restart()
    await eventually(lambda: bool(device.detectors[-1].pushed))
    assert device.detectors[-1].pushed[0].values.tolist() == [[1.0]]


async def test_a_state_too_large_to_keep_is_not_the_sender_s_fault(device: Device) -> None:
    await device.pipelines.submit(rows(0, 1))
    detector = device.detectors[-1]
    detector.state = lambda: bytes(MAX_STATE)  # type: ignore[method-assign]
    with pytest.raises(NotReady, match="cannot be kept"):
        await device.pipelines.submit(rows(1, 1))
    assert (await device.pipelines.submit(rows(1, 1))).accepted == 1


async def test_refusals_are_counted_and_heard(device: Device) -> None:
    subscription = device.events.subscribe()
    device.pipelines.refused(BadReading("rubbish", where="flow"), "sensors/pump-1")
    heard = (await anext(subscription)).event
    assert (heard.type, heard.data["source"], heard.data["where"]) == (
        "readings.refused",
        "sensors/pump-1",
        "flow",
    )
    assert device.count("readings_refused_total", "request.reading") == 1


async def test_everything_is_counted(device: Device) -> None:
    await device.pipelines.submit(rows(0, LEARN_ROWS + 3))
    await device.pipelines.submit(rows(0, 2))
    assert device.count("readings_total") == 30
    assert device.count("rows_total") == 15
    assert device.count("windows_total") == 3
    assert device.count("rows_dropped_total", "not_later") == 2


async def offered(pipelines: Pipelines, *singles: Single) -> None:
    """Hand single readings in and wait for the commit."""
    loop = asyncio.get_running_loop()
    told: list[Awaitable[Receipt | AgentError]] = []
    for single in singles:
        future: asyncio.Future[Receipt | AgentError] = loop.create_future()
        pipelines.offer("pump-1", single, future.set_result)
        told.append(future)
    assert all(isinstance(result, Receipt) for result in await asyncio.gather(*told))


async def eventually(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (what is waited for tells nobody)
            await asyncio.sleep(0.01)


# Cases and relearning


async def test_a_warning_is_a_case_that_its_end_closes(device: Device) -> None:
    await learn(device.pipelines)
    await device.pipelines.submit(rows(LEARN_ROWS, 2, value=50.0))
    (case,) = await device.database.read(lambda c: cases.newest(c, 10))
    (raised,) = await device.sent("escalation")
    assert (case.id, case.state, case.subject) == (raised["id"], "open", raised["alarm"])
    assert (case.model, case.version) == ("pump", "1.0.0")
    await device.pipelines.submit(rows(LEARN_ROWS + 2, 120))
    (case,) = await device.database.read(lambda c: cases.newest(c, 10))
    assert case.state == "closed"


async def test_relearning_forgets_what_is_normal_and_nothing_else(device: Device) -> None:
    await device.pipelines.submit(rows(0, LEARN_ROWS + 5))
    await device.pipelines.submit(rows(LEARN_ROWS + 5, 2, value=50.0))
    assert await device.pipelines.relearn("pump-1")
    (status,) = device.pipelines.status()
    assert (status.phase, status.progress, status.warning, status.rows) == (
        "learning", 0.0, "", LEARN_ROWS + 7,
    )  # fmt: skip
    (case,) = await device.database.read(lambda c: cases.newest(c, 10))
    assert case.state == "closed"
    (status,) = (await device.restart()).status()
    assert status.phase == "learning"


async def test_relearning_while_readings_pour_in_loses_none_of_them(device: Device) -> None:
    await learn(device.pipelines)
    sent = [device.pipelines.submit(rows(LEARN_ROWS + 20 * n, 20)) for n in range(10)]
    asked = [device.pipelines.relearn("pump-1") for _ in range(3)]
    receipts = await asyncio.gather(*sent, *asked)
    assert sum(r.accepted for r in receipts if isinstance(r, Receipt)) == 200


async def test_a_stream_that_nobody_watches_is_forgotten_and_an_unknown_one_is_named(
    device: Device,
) -> None:
    await learn(device.pipelines)
    device.specs = (PipelineSpec("other", "pump", ("else-*",)),)
    pipelines = await device.restart()
    assert not await pipelines.relearn("pump-1")
    assert await device.database.read(streams.load_all) == {}
    with pytest.raises(NotFound):
        await pipelines.relearn("pump-1")


async def test_relearning_that_cannot_be_written_did_not_happen(device: Device) -> None:
    await learn(device.pipelines)
    await device.database.write(lambda c: c.execute("PRAGMA query_only = ON"))
    with pytest.raises(StorageFailed):
        await device.pipelines.relearn("pump-1")
    (status,) = device.pipelines.status()
    assert status.phase == "watching"


def rows_from(start: int, count: int = LEARN_ROWS, stream: str = "pump-1") -> Rows:
    time = np.arange(start, start + count, dtype=float)
    return Rows(stream, ("flow",), time, np.zeros((count, 1)))


async def test_a_new_version_of_the_model_takes_over_at_the_next_batch(device: Device) -> None:
    await device.pipelines.submit(rows_from(0))
    device.models.versions["pump"] = "1.1.0"
    await device.models.get("pump")  # loaded, as `Models.refresh` does
    again, later = rows_from(0), rows_from(100)
    assert (await device.pipelines.submit(again)).dropped == {"repeat": LEARN_ROWS}
    assert (await device.pipelines.submit(later)).accepted == LEARN_ROWS
    (status,) = device.pipelines.status()
    assert (status.model, status.rows) == ("pump 1.1.0", 3 * LEARN_ROWS)
    assert len(device.detectors) == 2
    await device.restart()
    (status,) = device.pipelines.status()
    assert (status.model, status.rows) == ("pump 1.1.0", 3 * LEARN_ROWS)


async def test_a_stream_that_fell_silent_gives_its_place_to_a_new_one(device: Device) -> None:
    device.limits = PipelineLimits(streams=2, idle_s=3600.0)
    await device.restart()
    for number in (1, 2):
        await device.pipelines.submit(rows_from(0, stream=f"pump-{number}"))
    with pytest.raises(TooMany, match="2 streams"):
        await device.pipelines.submit(rows_from(0, stream="pump-3"))
    device.clock.later = 3000.0
    await device.pipelines.submit(rows_from(50, stream="pump-1"))
    device.clock.later = 4000.0
    await device.pipelines.submit(rows_from(0, stream="pump-3"))
    assert [s.stream for s in device.pipelines.status()] == ["pump-1", "pump-3"]
    device.limits = PipelineLimits()
    await device.restart()
    assert [s.stream for s in device.pipelines.status()] == ["pump-1", "pump-3"]
