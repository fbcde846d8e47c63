"""The receiver: repeats are dropped by id, everything else is counted."""

import asyncio
import json

import paho.mqtt.publish as publish
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import NotReachable
from tests.support.broker import free_port, mosquitto
from tests.sync.conftest import until
from tools.fleet.receiver import Ledger, Receiver


def payload(id_: str, kind: str = "telemetry") -> bytes:
    return json.dumps({"id": id_, "class": kind, "more": [1]}).encode()


@given(st.lists(st.sampled_from("abcdef")))
def test_each_id_counts_once(ids):
    ledger = Ledger()
    news = [ledger.note(payload(id_)) for id_ in ids]
    assert sum(news) == ledger.unique == len(set(ids))
    assert ledger.arrived == len(ids)
    assert ledger.repeats == len(ids) - len(set(ids))
    assert ledger.ids == set(ids)


def test_classes_are_counted_apart():
    ledger = Ledger()
    for id_, kind in (
        ("a", "escalation"),
        ("b", "telemetry"),
        ("c", "telemetry"),
        ("c", "telemetry"),
    ):
        ledger.note(payload(id_, kind))
    assert ledger.by_class == {"escalation": 1, "telemetry": 2}


@pytest.mark.parametrize("odd", [b"", b"online", b"[1]", b'{"id": 7}', b"\xff\xfe", b'{"id":'])
def test_what_has_no_id_is_new_each_time_and_said_so(odd):
    ledger = Ledger()
    assert ledger.note(odd)
    assert ledger.note(odd)
    assert (ledger.nameless, ledger.unique) == (2, 2)


def test_only_so_many_ids_are_remembered():
    ledger = Ledger(remember=2)
    for id_ in "abc":
        ledger.note(payload(id_))
    assert ledger.ids == {"b", "c"}
    assert ledger.note(payload("a"))


async def test_it_receives_from_a_broker_and_misses_nothing_while_away(tmp_path):
    """The session stays with the broker: what came while nobody listened is delivered later."""
    with mosquitto(tmp_path / "m") as broker:
        new = []
        with Receiver(broker.url, "a/#", on_new=lambda *m: new.append(m)) as receiver:
            _publish(broker.port, "1", "1", "2")
            await until(lambda: receiver.ledger.arrived == 3)
            assert receiver.ledger.unique == len(new) == 2
        _publish(broker.port, "3")
        with Receiver(broker.url, "a/#") as again:
            await until(lambda: again.ledger.ids == {"3"})


def test_a_broker_that_is_not_there_is_said_so():
    with pytest.raises(NotReachable):
        Receiver(f"mqtt://127.0.0.1:{free_port()}", "#").start()


async def test_closing_before_and_after_a_start_is_harmless(tmp_path):
    with mosquitto(tmp_path / "m") as broker:
        receiver = Receiver(broker.url, "a")
        receiver.close()
        await asyncio.to_thread(receiver.start)
        receiver.close()
        receiver.close()


def _publish(port: int, *ids: str) -> None:
    publish.multiple(
        [{"topic": "a/b", "payload": payload(id_), "qos": 1} for id_ in ids],
        hostname="127.0.0.1",
        port=port,
    )
