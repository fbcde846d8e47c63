"""The outbox: exact accounting whatever happens, bounds, order, grouped inserts."""

import asyncio
import math
import sqlite3
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agent.errors import BadConfig, BadRequest, StorageFailed, TooLarge, TooMany
from agent.store.connection import connect
from agent.store.db import Database
from agent.store.migrate import migrate
from agent.store.outbox import (
    CLASSES,
    MAX_PAYLOAD,
    MAX_TOPIC,
    Outbox,
    OutboxLimits,
    charged,
    insert,
    read_counts,
    read_pending,
    remove,
)
from agent.store.outbox_rows import FOLD, TICK_S, expire, thin
from agent.types import Message

ROOM = 2 * MAX_PAYLOAD


def message(number: int, kind: str = "telemetry", size: int = 10, expires: float = math.inf):
    return Message(f"id-{number:06}", kind, f"e/d/x/{kind}/s", bytes(size), 1.7e9, expires)


def queued(connection: sqlite3.Connection) -> list[str]:
    return [id_ for (id_,) in connection.execute("SELECT id FROM outbox ORDER BY seq")]


@pytest.fixture
async def outbox(database):
    outbox = Outbox(database, OutboxLimits(rows=100, bytes=ROOM))
    await outbox.start()
    return outbox


def fold(messages):
    """An aggregate for tests: an id of its own, a payload of the first one's size."""
    last = messages[-1]
    return replace(last, id=f"{last.id}+", payload=messages[0].payload)


class Accounting(RuleBasedStateMachine):
    """Any sequence of what can happen to rows, beside a model in plain Python."""

    ROWS, BYTES = 24, 9000

    @initialize()
    def open(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.connection = connect(Path(self.directory.name) / "outbox.db")
        migrate(self.connection)
        self.connection.execute(
            "UPDATE outbox_limits SET rows = ?, bytes = ?", (self.ROWS, self.BYTES)
        )
        self.model: dict[str, Message] = {}
        self.due: dict[str, float] = {}
        self.level: dict[str, int] = {}
        self.number = 0
        self.now = 0.0
        fates = ("enqueued", "delivered", "evicted", "expired", "thinned")
        self.fates = {kind: dict.fromkeys(fates, 0) for kind in CLASSES}

    @rule(
        batch=st.lists(
            st.tuples(
                st.sampled_from(CLASSES),
                st.integers(0, 600),
                st.sampled_from([50.0, 80.0, math.inf]),
            ),
            max_size=12,
        ),
        repeat=st.booleans(),
    )
    def insert(self, batch, repeat) -> None:
        new = []
        for kind, size, lives in batch:
            self.number += 1
            new.append(message(self.number, kind, size, 1.7e9 + lives))
        again = list(self.model.values())[:2] if repeat else []
        model, fates = dict(self.model), {kind: dict(f) for kind, f in self.fates.items()}
        for one in new:
            model[one.id] = one
            fates[one.kind]["enqueued"] += 1
            self.due[one.id] = self.now + one.expires - 1.7e9 + TICK_S
        fits = self._evict(model, fates)
        self.connection.execute("BEGIN")
        try:
            insert(self.connection, [*again, *new])
        except TooMany:
            self.connection.execute("ROLLBACK")
            assert not fits
        else:
            self.connection.execute("COMMIT")
            assert fits
            self.model, self.fates = model, fates

    @rule(data=st.data(), unknown=st.booleans())
    def deliver(self, data, unknown) -> None:
        ids = (
            data.draw(st.lists(st.sampled_from(sorted(self.model)), unique=True))
            if self.model
            else []
        )
        gone = remove(self.connection, [*ids, *(["nobody"] if unknown else [])], "delivered")
        assert gone == len(ids)
        for id_ in ids:
            self.fates[self.model.pop(id_).kind]["delivered"] += 1

    @rule(elapsed=st.sampled_from([0.0, 20.0, 60.0]))
    def expire(self, elapsed) -> None:
        self.now += elapsed
        due = [one for one in self.model.values() if self.due[one.id] <= self.now]
        assert expire(self.connection, elapsed) == len(due)
        for one in due:
            del self.model[one.id]
            self.fates[one.kind]["expired"] += 1

    @rule(level=st.integers(0, 2))
    def thin(self, level) -> None:
        done = thin(self.connection, fold, level, 0, 1000)
        groups = self._groups(level)
        assert done.saved == len(groups) * (FOLD - 1)
        for group in groups:
            last = group[-1].id
            self.due[f"{last}+"] = self.due[last]
            self.level[f"{last}+"] = level + 1
            renamed = {last: fold(group)}
            for one in group[:-1]:
                del self.model[one.id]
            self.model = {
                renamed.get(id_, one).id: renamed.get(id_, one) for id_, one in self.model.items()
            }
            self.fates["telemetry"]["thinned"] += FOLD
            self.fates["telemetry"]["enqueued"] += 1

    @rule()
    def reopen(self) -> None:
        self.connection.close()
        self.connection = connect(Path(self.directory.name) / "outbox.db")
        assert migrate(self.connection) == 0

    @invariant()
    def every_row_is_accounted_for(self) -> None:
        counts = read_counts(self.connection)
        for kind, fates in self.fates.items():
            rows = [one for one in self.model.values() if one.kind == kind]
            have = counts.by_class[kind]
            assert {name: getattr(have, name) for name in fates} == fates
            assert have.queued == len(rows)
            assert have.bytes == sum(map(charged, rows))
        assert queued(self.connection) == list(self.model)

    @invariant()
    def the_bound_holds(self) -> None:
        total = read_counts(self.connection).total
        assert total.queued <= self.ROWS
        assert total.bytes <= self.BYTES

    def teardown(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()
            self.directory.cleanup()

    def _groups(self, level: int) -> list[list[Message]]:
        rows = [
            one
            for one in self.model.values()
            if one.kind == "telemetry" and self.level.get(one.id, 0) == level
        ]
        return [rows[start : start + FOLD] for start in range(0, len(rows) - FOLD + 1, FOLD)]

    def _evict(self, model: dict[str, Message], fates) -> bool:
        """The rule itself: oldest telemetry, then oldest reports, never an escalation."""
        for kind in ("telemetry", "report"):
            for one in [one for one in model.values() if one.kind == kind]:
                if self._fits(model):
                    return True
                del model[one.id]
                fates[kind]["evicted"] += 1
        return self._fits(model)

    def _fits(self, model: dict[str, Message]) -> bool:
        return len(model) <= self.ROWS and sum(map(charged, model.values())) <= self.BYTES


TestAccounting = Accounting.TestCase
TestAccounting.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


async def test_what_is_put_is_pending_in_order_of_arrival(outbox):
    await outbox.put([message(n) for n in range(10)])
    rows = await outbox.pending(5, kind="telemetry")
    assert [row.message for row in rows] == [message(n) for n in range(5)]
    more = await outbox.pending(100, kind="telemetry", after=rows[-1].seq)
    assert [row.message for row in more] == [message(n) for n in range(5, 10)]


async def test_pending_stops_at_a_number_of_bytes(outbox):
    await outbox.put([message(n, size=1000) for n in range(10)])
    assert len(await outbox.pending(10, kind="telemetry", max_bytes=3500)) == 4


async def test_peek_shows_the_most_important_first_and_changes_nothing(outbox):
    await outbox.put([message(1), message(2, "report"), message(3, "escalation"), message(4)])
    assert [row.message.id[-1] for row in await outbox.peek()] == ["3", "2", "1", "4"]
    assert [row.message.id[-1] for row in await outbox.peek(2)] == ["3", "2"]
    assert (await outbox.counts()).total.queued == 4


async def test_an_expiry_and_its_absence_come_back_as_they_were_put(outbox):
    await outbox.put([message(1, expires=123.5), message(2)])
    assert [row.message.expires for row in await outbox.peek()] == [123.5, math.inf]


async def test_a_lifetime_runs_by_what_the_agent_was_awake_for(clock, outbox):
    """A wall clock that jumps a year takes nothing; time that really passes does, a tick late."""
    await outbox.put([replace(message(1), expires=1.7e9 + 3600), message(2)])
    clock.jump(365 * 86_400)
    assert await outbox.expire() == 0
    clock.jump(-800 * 86_400)
    clock.advance(3600 - TICK_S)
    assert await outbox.expire() == 0
    left = (await outbox.pending(1, kind="telemetry"))[0].left_s
    assert left == pytest.approx(2 * TICK_S)
    clock.advance(2 * TICK_S)
    assert await outbox.expire() == 1
    assert (await outbox.counts()).total.expired == 1


async def test_a_lifetime_goes_on_after_a_restart(tmp_path, clock):
    for run in range(3):
        database = Database.open(tmp_path / "agent.db", clock=clock)
        outbox = Outbox(database)
        await outbox.start()
        if run == 0:
            await outbox.put([replace(message(1), expires=1.7e9 + 100)])
        clock.advance(60)
        assert await outbox.expire() == (run == 2)
        await database.close()


async def test_old_telemetry_is_folded_while_the_outbox_is_half_full(outbox):
    await outbox.put([message(n) for n in range(45)])
    assert await outbox.thin(fold) == 0
    await outbox.put([message(n) for n in range(45, 90)])
    assert await outbox.thin(fold) == 11 * (FOLD - 1)
    counts = (await outbox.counts()).total
    assert (counts.enqueued, counts.thinned, counts.queued) == (101, 88, 13)
    assert [row.message.id for row in await outbox.peek(100)][:2] == ["id-000007+", "id-000015+"]


async def test_the_finest_is_folded_before_anything_is_made_coarser(database):
    """Ten times the bound, one stream: everything is kept, and no row is more than two levels up."""
    outbox = Outbox(database, OutboxLimits(rows=400))
    await outbox.start()
    for start in range(0, 4000, 50):
        await outbox.put([message(n) for n in range(start, start + 50)])
        await outbox.thin(fold)
    counts = (await outbox.counts()).total
    assert counts.evicted == 0
    assert counts.queued <= 250
    levels = await database.read(
        lambda c: c.execute("SELECT DISTINCT level FROM outbox").fetchall()
    )
    assert max(levels) == (2,)


async def test_many_streams_that_take_turns_are_folded_too(database):
    outbox = Outbox(database, OutboxLimits(rows=30_000))
    await outbox.start()
    rows = [replace(message(n), topic=f"t/{n % 1500}") for n in range(16_500)]
    await outbox.put(rows)
    assert await outbox.thin(fold) >= 1500


async def test_what_cannot_be_folded_stays(outbox):
    await outbox.put([message(n) for n in range(90)])
    assert await outbox.thin(lambda _: None) == 0
    assert (await outbox.counts()).total.queued == 90


async def test_producers_that_wait_together_share_one_insert(database, outbox):
    before = database.commits
    await asyncio.gather(*(outbox.put([message(n)]) for n in range(50)))
    assert database.commits - before <= 2
    assert (await outbox.counts()).total.enqueued == 50


async def test_a_repeated_id_is_neither_doubled_nor_counted_again(outbox):
    await outbox.put([message(1, "escalation")])
    await outbox.put([message(1, "escalation"), message(2)])
    counts = await outbox.counts()
    assert counts.by_class["escalation"].enqueued == 1
    assert counts.total.queued == 2


async def test_a_message_over_the_common_limit_of_brokers_is_refused_alone(outbox):
    too_large = message(1, size=MAX_PAYLOAD + 1)
    results = await asyncio.gather(
        outbox.put([too_large]), outbox.put([message(2, size=MAX_PAYLOAD)]), return_exceptions=True
    )
    assert isinstance(results[0], TooLarge)
    assert results[1] is None
    assert (await outbox.counts()).total.enqueued == 1


@pytest.mark.parametrize("topic", ["", "a/+/b", "a/#", "a\0b", "é" * (MAX_TOPIC // 2 + 1)])
async def test_a_topic_that_no_broker_would_take_is_refused(outbox, topic):
    with pytest.raises((BadRequest, TooLarge)):
        await outbox.put([Message("id", "telemetry", topic, b"", 0.0)])


async def test_over_the_bound_the_oldest_telemetry_goes_and_escalations_stay(outbox):
    await outbox.put([message(n, "escalation") for n in range(20)])
    await outbox.put([message(n) for n in range(100, 300)])
    counts = await outbox.counts()
    assert counts.by_class["escalation"].queued == 20
    assert counts.by_class["telemetry"].queued == 80
    assert counts.by_class["telemetry"].evicted == 120
    assert (await outbox.pending(1, kind="telemetry"))[0].message == message(220)


async def test_an_outbox_full_of_escalations_refuses_more_and_loses_none(outbox):
    await outbox.put([message(n, "escalation") for n in range(100)])
    with pytest.raises(TooMany, match="full of escalations"):
        await outbox.put([message(1000, "escalation")])
    counts = await outbox.counts()
    assert counts.by_class["escalation"].queued == counts.by_class["escalation"].enqueued == 100


async def test_telemetry_that_finds_no_room_is_counted_as_evicted(outbox):
    await outbox.put([message(n, "escalation") for n in range(100)])
    await outbox.put([message(1000)])
    telemetry = (await outbox.counts()).by_class["telemetry"]
    assert (telemetry.enqueued, telemetry.evicted, telemetry.queued) == (1, 1, 0)


async def test_a_smaller_bound_takes_effect_at_the_next_start(database, outbox):
    await outbox.put([message(n) for n in range(50)])
    await Outbox(database, OutboxLimits(rows=10, bytes=ROOM)).start()
    assert (await outbox.counts()).total.queued == 10


@pytest.mark.parametrize("size", [0, 200, 790, 1300, 3000, 5000, 40_000])
async def test_the_disk_takes_no_more_than_the_bound(tmp_path, clock, size):
    """Three times the bound is put in; file and log stay within it and the log's own bound."""
    bound = 4 << 20
    database = Database.open(tmp_path / "agent.db", clock=clock)
    outbox = Outbox(database, OutboxLimits(bytes=bound))
    await outbox.start()
    batch = max(1, 100_000 // (size + 300))
    for start in range(0, 3 * bound // (size + 300), batch):
        await outbox.put([message(n, size=size) for n in range(start, start + batch)])
    counts = (await outbox.counts()).total
    assert counts.evicted > 0
    assert counts.bytes > bound * 0.9
    await database.close()
    assert (tmp_path / "agent.db").stat().st_size < bound * 1.05


@pytest.mark.parametrize("limits", [{"rows": 0}, {"bytes": 2 * MAX_PAYLOAD - 1}])
def test_a_bound_that_holds_no_message_is_refused(limits):
    with pytest.raises(BadConfig):
        OutboxLimits(**limits)


async def test_listeners_hear_of_rows_that_others_wrote(database, outbox):
    heard = []
    stop = outbox.on_new(lambda: heard.append(1))
    await database.write(lambda c: insert(c, [message(1)]))
    assert heard == [1]
    await outbox.delivered(["id-000001"])
    assert heard == [1]
    stop()
    await outbox.put([message(2)])
    assert heard == [1]


async def _outcome(work):
    try:
        return await work
    except StorageFailed as error:
        return error


async def test_a_full_disk_refuses_the_message_and_keeps_the_account(database, outbox):
    await database.write(lambda c: c.execute("PRAGMA max_page_count = 30").fetchone())
    puts = [outbox.put([message(number, size=1000)]) for number in range(100)]
    put = sum([not isinstance(await _outcome(one), StorageFailed) for one in puts])
    assert 0 < put < 100
    counts = (await outbox.counts()).total
    assert (counts.enqueued, counts.queued) == (put, put)
    assert await outbox.delivered([f"id-{n:06}" for n in range(100)]) == put


async def test_a_transaction_that_cannot_begin_holds_no_later_producer_up(database, outbox):
    """Another program holds the lock for longer than the agent waits; then it lets go."""
    await database.write(lambda c: c.execute("PRAGMA busy_timeout = 10").fetchone())
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="locked"):
        await outbox.put([message(1)])
    other.execute("ROLLBACK")
    other.close()
    await asyncio.wait_for(outbox.put([message(2)]), 10)
    assert (await outbox.counts()).total.enqueued == 1


def test_a_producer_that_fails_after_the_insert_takes_its_rows_back(tmp_path):
    connection = connect(tmp_path / "outbox.db")
    migrate(connection)
    connection.execute("BEGIN")
    insert(connection, [message(1)])
    connection.execute("ROLLBACK")
    assert read_counts(connection).total.enqueued == 0
    assert read_pending(connection, "telemetry", 0, 10, 1000) == []
    connection.close()
