"""The link against brokers without MQTT 5, and against brokers that misbehave."""

import asyncio
import functools
import socket

import psutil
import pytest

from agent.errors import NotReachable
from agent.sync.link import Will
from tests.support.broker import (
    ACCEPT_3,
    ACCEPT_5,
    CONNECT,
    PUBLISH,
    connack,
    disconnect,
    fake_broker,
    free_port,
    puback,
)
from tests.sync.conftest import until
from tests.sync.publishing import publish

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
        try:
            packet = await reader.read(1000)
            if packet[packet.index(b"MQTT") + 4] == 4:
                connections.append(1)
                writer.write(ACCEPT_3)
                await writer.drain()
                await asyncio.sleep(0.02)
        finally:  # also when the test ends in the middle
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = links.make(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await until(lambda: "another client" in str(link.reason))
    assert len(connections) >= 3
    server.close()
    await link.close()


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
