"""The link against real brokers and against brokers that misbehave."""

import asyncio
import functools
import os
import socket
import subprocess
import time

import psutil
import pytest
import uvloop

from agent.clock import SystemClock
from agent.errors import BadRequest, NotReachable, TooLarge
from agent.sync.link import Link, LinkSettings, Will
from agent.telemetry.metrics import Metrics
from tests.support.broker import (
    ACCEPT_3,
    ACCEPT_5,
    CONNECT,
    PINGREQ,
    PUBLISH,
    SUBSCRIBE,
    connack,
    disconnect,
    fake_broker,
    free_port,
    mosquitto,
    puback,
)
from tests.sync.conftest import until


def publish(link: Link, topic: str, payload: bytes = b"x", **options) -> list:
    """Publish; the list holds the answer once it has come."""
    answers: list = []
    assert link.publish(topic, payload, on_ack=answers.append, **options)
    return answers


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


# A broker without MQTT 5.


async def test_it_falls_back_to_3_1_1_with_the_embedded_broker(links):
    amqtt_broker = pytest.importorskip("amqtt.broker")
    port = free_port()
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = amqtt_broker.Broker(config)
    await broker.start()
    try:
        link = links.make(f"mqtt://127.0.0.1:{port}", will=Will("status"))
        await until(lambda: link.connected)
        assert link.protocol == "3.1.1"
        received = []
        link.subscribe("a/#", lambda m: (received.append(m.payload), m.ack()))
        await asyncio.sleep(0.1)
        answers = publish(link, "a/b", b"hello")
        await until(lambda: answers == [None] and received == [b"hello"])
        await link.close()
    finally:
        await broker.shutdown()


def only_3(packet: bytes, refusal: bytes | None) -> bytes | None:
    """Accept version 3.1.1, and meet any other with `refusal`."""
    return ACCEPT_3 if packet[packet.index(b"MQTT") + 4] == 4 else refusal


@pytest.mark.parametrize(
    "refusal",
    [b"\x20\x02\x00\x01", connack(0x84), None, b""],
    ids=["in the words of 3.1.1", "in the words of 5", "by closing", "by silence"],
)
async def test_it_falls_back_when_version_5_is_refused(links, refusal):
    async with fake_broker({CONNECT: functools.partial(only_3, refusal=refusal)}) as fake:
        link = links.make(fake.url, connect_timeout_s=0.5)
        await until(lambda: link.connected)
        assert link.protocol == "3.1.1"
        assert fake.protocols() == [5, 4]


# Brokers that misbehave.


async def test_a_broker_that_accepts_and_never_answers_is_given_up(links):
    async with fake_broker() as fake:
        link = links.make(fake.url, connect_timeout_s=0.1)
        await until(lambda: len(fake.connects) >= 2)
        assert "did not answer for 0.1 s" in str(link.reason)


async def test_a_socket_that_nobody_serves_is_given_up(links):
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        link = links.make(f"mqtt://127.0.0.1:{deaf.getsockname()[1]}", connect_timeout_s=0.1)
        await until(lambda: link.reason and link.state in {"waiting", "connecting"})
        assert isinstance(link.reason, NotReachable)


async def test_a_broker_that_stops_acknowledging_is_given_up_and_the_sender_told(links):
    async with fake_broker({CONNECT: lambda _: ACCEPT_5}) as fake:
        link = links.make(fake.url, ack_timeout_s=0.2)
        await until(lambda: link.connected)
        answers: list = []
        link.publish("a", b"x", on_ack=lambda e: answers.append((e, link.connected)))
        await until(lambda: answers)
        assert isinstance(answers[0][0], NotReachable)
        assert not answers[0][1], "the link is down before the senders hear of it"
        await until(lambda: len(fake.connects) >= 2)


async def test_a_frozen_broker_is_given_up(broker, links):
    link = links.make(broker.url, ack_timeout_s=0.5)
    await until(lambda: link.connected)
    broker.pause()
    answers = publish(link, "a")
    await until(lambda: answers)
    assert isinstance(answers[0], NotReachable)
    broker.resume()
    await until(lambda: link.connected)


@pytest.mark.parametrize("code", [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99])
async def test_a_refused_message_is_told_with_the_reason_and_the_link_stays(links, code):
    answers_by_topic = {b"bad": code, b"good": 0}

    def answer(packet: bytes) -> bytes:
        return puback(packet, next(c for topic, c in answers_by_topic.items() if topic in packet))

    async with fake_broker({CONNECT: lambda _: ACCEPT_5, PUBLISH: answer}) as fake:
        link = links.make(fake.url)
        await until(lambda: link.connected)
        bad, good = publish(link, "bad"), publish(link, "good")
        await until(lambda: bad and good)
        assert isinstance(bad[0], NotReachable)
        assert f"({code})" in str(bad[0])
        assert good == [None]
        assert link.connected


@pytest.mark.parametrize(
    "code",
    [
        0x80,
        0x81,
        0x82,
        0x83,
        0x85,
        0x86,
        0x87,
        0x88,
        0x89,
        0x8A,
        0x95,
        0x97,
        0x9C,
        0x9D,
        0x9F,
        0xFE,
    ],
)
async def test_every_refusal_of_a_connection_is_reported_and_tried_again(links, code):
    async with fake_broker({CONNECT: lambda _: connack(code)}) as fake:
        link = links.make(fake.url)
        await until(lambda: len(fake.connects) >= 3)
        assert isinstance(link.reason, NotReachable)


@pytest.mark.parametrize("code", [0x00, 0x80, 0x82, 0x89, 0x8B, 0x8D, 0x93, 0x98, 0xA0, 0xFE])
async def test_every_disconnect_of_the_broker_is_reported_and_followed_by_a_new_connection(
    links, code
):
    async with fake_broker(
        {CONNECT: lambda _: ACCEPT_5, PUBLISH: lambda _: disconnect(code)}
    ) as fake:
        link = links.make(fake.url)
        await until(lambda: link.connected)
        answers = publish(link, "a")
        await until(lambda: answers)
        assert isinstance(answers[0], NotReachable)
        await until(lambda: len(fake.connects) >= 2)


async def test_another_client_with_the_same_identifier_is_named(links):
    """Reason code 142 says it outright; the link stands back instead of fighting for the session."""
    async with fake_broker(
        {CONNECT: lambda _: ACCEPT_5, PUBLISH: lambda _: disconnect(142)}
    ) as fake:
        link = links.make(fake.url, backoff_min_s=10.0, backoff_max_s=20.0)
        await until(lambda: link.connected)
        publish(link, "a")
        await until(lambda: link.state == "waiting")
        assert "another client connects with this device's identifier, 'device-1'" in str(
            link.reason
        )
        assert len(fake.connects) == 1


async def test_two_clients_with_one_identifier_are_suspected_on_mosquitto(broker, links):
    """It closes the older connection without a word; young deaths in a row give it away."""
    first = links.make(broker.url, backoff_min_s=0.02, backoff_max_s=0.05)
    second = links.make(broker.url, backoff_min_s=0.02, backoff_max_s=0.05)
    await until(
        lambda: "another client" in str(first.reason) or "another client" in str(second.reason)
    )


async def test_two_clients_with_one_identifier_are_suspected_on_3_1_1(links):
    """There the broker only closes; connections that die young in a row give it away."""
    connections = []

    async def serve(reader, writer):
        packet = await reader.read(1000)
        if packet[packet.index(b"MQTT") + 4] == 4:
            connections.append(1)
            writer.write(ACCEPT_3)
            await writer.drain()
            await asyncio.sleep(0.02)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = links.make(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await until(lambda: "another client" in str(link.reason))
    assert len(connections) >= 3
    server.close()


async def test_a_packet_that_claims_to_be_huge_ends_the_connection(links):
    """256 MB announced: nothing is collected, the connection ends."""
    huge = b"\x30\xff\xff\xff\x7f" + bytes(1000)
    async with fake_broker({CONNECT: lambda _: ACCEPT_5 + huge}) as fake:
        link = links.make(fake.url)
        before = psutil.Process().memory_info().rss
        await until(lambda: len(fake.connects) >= 3)
        assert psutil.Process().memory_info().rss - before < 32 << 20
        assert "packet of 268435455 bytes" in str(link.reason)


@pytest.mark.parametrize("seed", range(20))
async def test_random_bytes_end_the_connection_and_not_the_agent(links, seed):
    import random

    noise = random.Random(seed).randbytes(400)
    async with fake_broker({CONNECT: lambda _: ACCEPT_5 + noise}) as fake:
        link = links.make(fake.url, ack_timeout_s=0.1)
        await until(lambda: link.connected or link.reason)
        if link.connected:
            link.publish("a", b"x", on_ack=lambda _: None)
        await until(lambda: len(fake.connects) >= 2)


def make_certificates(directory) -> dict:
    """A small authority, a broker's certificate for 127.0.0.1 and a device's, by openssl."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
            "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority", "-days", "2",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")  # fmt: skip
    (directory / "san.cnf").write_text(
        "subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n"
    )  # Python 3.13 wants all of it
    for name in ("server", "device"):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")  # fmt: skip
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", f"{name}.pem", "-days", "2", "-extfile", "san.cnf")  # fmt: skip
        (directory / f"{name}.key").chmod(0o644)
    return {
        "ca": directory / "ca.pem",
        "server": directory / "server.pem",
        "server_key": directory / "server.key",
        "device": directory / "device.pem",
        "device_key": directory / "device.key",
    }
