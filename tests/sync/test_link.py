"""The link against real brokers: what it does when all is well, or almost."""

import asyncio
import os
import subprocess
import time

import pytest
import uvloop

from agent.clock import SystemClock
from agent.errors import BadRequest, NotReachable, TooLarge
from agent.sync.link import Link, LinkSettings, Will
from agent.telemetry.metrics import Metrics
from tests.support.broker import (
    ACCEPT_5,
    CONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    fake_broker,
    free_port,
    mosquitto,
    puback,
)
from tests.support.certificates import make_certificates
from tests.sync.conftest import until
from tests.sync.publishing import publish


def read_retained(port: int, topic: str, wait_s: int = 5) -> str:
    """What another program sees."""
    command = ["mosquitto_sub", "-p", str(port), "-t", topic, "-C", "1", "-W", str(wait_s)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


# A broker that does what it should.


async def test_it_speaks_mqtt_5_to_mosquitto_and_messages_are_acknowledged(broker, links):
    link = links.make(broker.url)
    await until(lambda: link.connected)
    assert link.protocol == "5"
    answers = publish(link, "a/b")
    await until(lambda: answers)
    assert answers == [None]


async def test_it_runs_on_uvloop_as_well(broker):
    def check() -> None:
        async def main() -> None:
            link = Link(LinkSettings(brokers=(broker.url,)), clock=SystemClock())
            link.start()
            await until(lambda: link.connected)
            answers = publish(link, "a")
            await until(lambda: answers == [None])
            await link.close()

        uvloop.run(main())

    await asyncio.to_thread(check)


async def test_a_subscription_receives_and_survives_a_restart_of_the_broker(broker, links):
    link = links.make(broker.url)
    received = []
    link.subscribe("in/#", lambda m: (received.append((m.topic, m.payload)), m.ack()))
    await until(lambda: link.connected)
    publish(link, "in/1", b"before")
    await until(lambda: received)
    await asyncio.to_thread(broker.kill)
    await until(lambda: not link.connected)
    await asyncio.to_thread(broker.start)
    await until(lambda: link.connected)
    publish(link, "in/2", b"after")
    await until(lambda: len(received) == 2)
    assert received == [("in/1", b"before"), ("in/2", b"after")]


async def test_what_is_not_acknowledged_comes_again(broker, links):
    """The broker keeps a message until `ack` was called, over a lost connection."""
    link = links.make(broker.url)
    seen = []
    link.subscribe("in", seen.append)
    await until(lambda: link.connected)
    publish(link, "in", b"precious")
    await until(lambda: len(seen) == 1)
    link._connection._transport.close()
    link._connection._end("lost", "was cut by the test")
    await until(lambda: len(seen) == 2)
    assert seen[1].payload == b"precious"
    seen[0].ack()  # of a connection that is gone: harmless
    seen[1].ack()


async def test_a_message_for_two_handlers_is_acknowledged_after_both(broker, links):
    link = links.make(broker.url)
    one, two = [], []
    link.subscribe("in/#", one.append)
    link.subscribe("in/+", two.append)
    await until(lambda: link.connected)
    publish(link, "in/x")
    await until(lambda: one and two)
    with pytest.raises(BadRequest):
        link.subscribe("in/+", one.append)


async def test_a_handler_that_fails_costs_its_message_only(broker, links, caplog):
    link = links.make(broker.url)
    received = []

    def handle(message):
        received.append(message.payload)
        message.ack()
        if message.payload == b"bad":
            raise ValueError("a bug")

    link.subscribe("in", handle)
    await until(lambda: link.connected)
    publish(link, "in", b"bad")
    publish(link, "in", b"good")
    await until(lambda: received == [b"bad", b"good"])
    assert "a handler of in failed" in caplog.text


async def test_the_will_is_published_when_the_device_vanishes_and_not_when_it_leaves(broker, links):
    will = Will("edge/d/x/status")
    link = links.make(broker.url, will=will)
    await until(lambda: link.connected)
    assert await asyncio.to_thread(read_retained, broker.port, will.topic) == "online"
    link._connection._transport.close()  # as a power cut: no goodbye
    await until(lambda: read_retained(broker.port, will.topic) == "offline")
    link._connection._end("lost", "was cut by the test")
    await until(lambda: link.connected)
    await link.close()
    assert await asyncio.to_thread(read_retained, broker.port, will.topic) == "offline"
    assert link.state == "stopped"


async def test_the_window_bounds_what_is_in_flight(broker, links):
    link = links.make(broker.url, window=5)
    await until(lambda: link.connected)
    answers: list = []
    taken = [link.publish("a", b"x", on_ack=answers.append) for _ in range(8)]
    assert taken == [True] * 5 + [False] * 3
    await until(lambda: len(answers) == 5)
    assert link.publish("a", b"x", on_ack=answers.append)


async def test_the_broker_may_ask_for_a_smaller_window(tmp_path, links):
    with mosquitto(
        tmp_path / "m",
        f"listener {free_port()} 127.0.0.1\nmax_inflight_messages 7",
    ) as one:
        link = links.make(one.url)
        await until(lambda: link.connected)
        assert link.window == 7


async def test_a_message_larger_than_the_broker_takes_is_refused_here(tmp_path, links):
    """Sent, it would make the broker close the connection, again and again."""
    with mosquitto(tmp_path / "m", "max_packet_size 1000") as broker:
        link = links.make(broker.url)
        await until(lambda: link.connected)
        answers = publish(link, "a", bytes(2000))
        await until(lambda: answers)
        assert isinstance(answers[0], TooLarge)
        answers = publish(link, "a", bytes(500))
        await until(lambda: answers)
        assert answers == [None]


async def test_more_than_a_slow_broker_reads_at_once_arrives_all_the_same(broker, links):
    """Ten megabytes in flight, the broker paused in between: nothing gets stuck in a buffer."""
    link = links.make(broker.url, window=100)
    await until(lambda: link.connected)
    broker.pause()
    payload = os.urandom(128 << 10)
    answers = [publish(link, "big", payload) for _ in range(80)]
    await asyncio.sleep(0.3)
    broker.resume()
    await until(lambda: all(answers))
    assert answers == [[None]] * 80


async def test_a_broker_that_keeps_nothing_is_not_asked_to(links):
    """Retain available 0 (MQTT 5, section 3.2.2.3.5): a retained message would end the connection."""
    accept = b"\x20\x05\x00\x00\x02\x25\x00"
    async with fake_broker({CONNECT: lambda _: accept, PUBLISH: puback}) as fake:
        link = links.make(fake.url, will=Will("status"))
        await until(lambda: any(packet[0] >> 4 == PUBLISH for packet in fake.packets))
        assert [packet[0] & 1 for packet in fake.packets if packet[0] >> 4 == PUBLISH] == [0]
        assert link.connected


async def test_the_brokers_own_keepalive_is_kept_to(links):
    """Server keep alive 1 s (MQTT 5, section 3.2.2.3.14), where the device asked for a minute."""
    accept = b"\x20\x06\x00\x00\x03\x13\x00\x01"
    async with fake_broker({CONNECT: lambda _: accept, PINGREQ: lambda _: b"\xd0\x00"}) as fake:
        link = links.make(fake.url)
        await until(lambda: any(packet[0] >> 4 == PINGREQ for packet in fake.packets), 5.0)
        assert link.connected


async def test_many_subscriptions_go_in_packets_that_every_cloud_broker_takes(broker, links):
    link = links.make(broker.url)
    received = []
    for number in range(20):
        link.subscribe(f"in/{number}", lambda m: (received.append(m.topic), m.ack()))
    await until(lambda: link.connected)
    for number in range(20):
        publish(link, f"in/{number}")
    await until(lambda: len(received) == 20)


async def test_a_refused_subscription_is_said_so(links, caplog):
    def suback(packet: bytes) -> bytes:
        return b"\x90\x04" + packet[2:4] + b"\x00\x87"

    async with fake_broker({CONNECT: lambda _: ACCEPT_5, SUBSCRIBE: suback}) as fake:
        link = links.make(fake.url)
        link.subscribe("secret/#", lambda m: m.ack())
        await until(lambda: "refused a subscription: Not authorized (135)" in caplog.text)


async def test_a_fault_of_our_own_is_logged_and_tried_again(broker, caplog):
    """A listener that raises, the first time only, must not leave the device without a link."""
    link = Link(LinkSettings(brokers=(broker.url,), backoff_min_s=0.01), clock=SystemClock())
    faults = [RuntimeError("a bug")]

    def listen() -> None:
        if link.connected and faults:
            raise faults.pop()

    link.on_state(listen)
    link.start()
    await until(lambda: link.connected and not faults and link.reason is None)
    assert "a bug" in caplog.text
    await link.close()


async def test_a_topic_that_cannot_be_published_is_an_answer_and_no_exception(broker, links):
    link = links.make(broker.url)
    await until(lambda: link.connected)
    answers = publish(link, "a/#")
    await until(lambda: answers)
    assert isinstance(answers[0], BadRequest)


async def test_nothing_is_published_without_a_connection(links):
    link = links.make(f"mqtt://127.0.0.1:{free_port()}")
    assert not link.publish("a", b"x", on_ack=lambda _: None)
    await until(lambda: link.reason)
    assert isinstance(link.reason, NotReachable)
    assert "cannot connect" in str(link.reason)


async def test_closing_twice_or_before_a_start_is_harmless(broker):
    link = Link(LinkSettings(brokers=(broker.url,)), clock=SystemClock())
    await link.close()
    link.start()
    await until(lambda: link.connected)
    await link.close()
    await link.close()


async def test_the_next_broker_is_used_when_one_does_not_answer(broker, links):
    link = links.make(f"mqtt://127.0.0.1:{free_port()}", broker.url)
    await until(lambda: link.connected)
    assert link.broker == f"127.0.0.1:{broker.port}"


async def test_an_idle_connection_costs_no_processor_time(broker, links):
    """The bound is 0.2 % of a core: 2 ms in a second of rest. A garbage collection may hit one."""
    link = links.make(broker.url)
    await until(lambda: link.connected)
    spent = [await _process_time_of_rest(1.0) for _ in range(3)]
    assert min(spent) < 0.002


async def _process_time_of_rest(seconds: float) -> float:
    before = time.process_time()
    await asyncio.sleep(seconds)
    return time.process_time() - before


async def test_a_silent_connection_is_kept_alive(tmp_path, links):
    """Five seconds is the shortest keepalive; the broker would close after one and a half of it."""
    async with fake_broker({CONNECT: lambda _: ACCEPT_5, PINGREQ: lambda _: b"\xd0\x00"}) as fake:
        link = links.make(fake.url, keepalive_s=5)
        await until(lambda: link.connected)
        await until(lambda: sum(packet[0] >> 4 == PINGREQ for packet in fake.packets) >= 1)
        assert link.connected


async def test_an_encrypted_connection_with_a_certificate_of_the_device(tmp_path, links):
    files = await asyncio.to_thread(make_certificates, tmp_path)
    port = free_port()
    config = (
        f"listener {port} 127.0.0.1\ncafile {files['ca']}\ncertfile {files['server']}\n"
        f"keyfile {files['server_key']}\nrequire_certificate true\nuse_identity_as_username true"
    )
    with mosquitto(tmp_path / "m", config):
        link = links.make(
            f"mqtts://127.0.0.1:{port}",
            ca_file=files["ca"],
            certificate_file=files["device"],
            key_file=files["device_key"],
        )
        await until(lambda: link.connected)
        received = []
        link.subscribe("big", lambda m: (received.append(m.payload), m.ack()))
        payload = os.urandom(120_000)
        answers = [publish(link, "big", payload) for _ in range(10)]
        await until(lambda: len(received) == 10)
        assert answers == [[None]] * 10
        assert set(received) == {payload}
        stranger = links.make(f"mqtts://127.0.0.1:{port}", ca_file=files["ca"], client_id="other")
        await until(lambda: stranger.reason)
        assert not stranger.connected


async def test_an_untrusted_broker_is_refused_with_a_hint(tmp_path, links):
    files = await asyncio.to_thread(make_certificates, tmp_path)
    port = free_port()
    config = f"listener {port} 127.0.0.1\ncertfile {files['server']}\nkeyfile {files['server_key']}"
    with mosquitto(tmp_path / "m", config):
        link = links.make(f"mqtts://127.0.0.1:{port}")
        await until(lambda: link.reason)
        assert "Check the certificates" in link.reason.hint


async def test_over_a_websocket(tmp_path, links):
    port = free_port()
    with mosquitto(tmp_path / "m", f"listener {port} 127.0.0.1\nprotocol websockets"):
        link = links.make(f"ws://127.0.0.1:{port}/mqtt")
        await until(lambda: link.connected)
        received = []
        link.subscribe("a", lambda m: (received.append(m.payload), m.ack()))
        payload = os.urandom(100_000)
        publish(link, "a", payload)
        await until(lambda: received == [payload])


async def test_a_wrong_password_is_reported_in_the_brokers_words(tmp_path, links):
    secret = tmp_path / "password"
    secret.write_text("wrong\n")
    empty = tmp_path / "users"
    empty.write_text("")
    with mosquitto(tmp_path / "m", f"password_file {empty}") as broker:
        link = links.make(broker.url, username="device-1", password_file=secret)
        await until(lambda: link.reason)
        assert "Not authorized" in str(link.reason)


async def test_a_password_file_that_is_missing_is_reported_and_tried_again(tmp_path, broker, links):
    link = links.make(broker.url, username="device-1", password_file=tmp_path / "password")
    await until(lambda: link.reason)
    assert link.reason.where == "password_file"
    (tmp_path / "password").write_text("late\n")
    await until(lambda: link.connected)


async def test_connections_and_failures_are_counted_by_broker_and_reason(broker):
    metrics = Metrics()
    nobody = f"127.0.0.1:{free_port()}"
    settings = LinkSettings(brokers=(f"mqtt://{nobody}", broker.url))
    link = Link(settings, clock=SystemClock(), metrics=metrics)
    link.start()
    await until(lambda: link.connected)
    await link.close()
    counts = {metric.name: metric.series() for metric in metrics}
    assert counts["edge_agent_mqtt_connects_total"] == {(f"127.0.0.1:{broker.port}",): 1}
    assert counts["edge_agent_mqtt_failures_total"] == {(nobody, "unreachable"): 1}
