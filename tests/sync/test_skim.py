"""Messages that are too large: passed over, acknowledged, counted, and they do not come again."""

import asyncio
import struct

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.sync.link import Link, LinkSettings
from agent.sync.skim import Skim
from agent.telemetry.metrics import Metrics
from tests.support.broker import ACCEPT_3, CONNECT, SUBSCRIBE, fake_broker
from tests.sync.conftest import until
from tests.sync.publishing import publish


def body(topic: bytes, mid: int | None, payload: bytes) -> bytes:
    number = b"" if mid is None else struct.pack(">H", mid)
    return struct.pack(">H", len(topic)) + topic + number + payload


@given(st.binary(max_size=40), st.integers(1, 65_535), st.binary(max_size=80), st.data())
def test_the_head_is_read_however_it_is_cut(topic, mid, payload, data):
    packet = body(topic, mid, payload)
    skim = Skim(0b0010, len(packet))
    while skim.left:
        size = data.draw(st.integers(1, skim.left))
        skim.feed(packet[len(packet) - skim.left :][:size])
    assert (skim.mid, skim.topic) == (mid, topic.decode(errors="replace"))


def test_a_message_that_nobody_is_to_acknowledge_has_no_number():
    packet = body(b"t", None, b"\x00\x01\x02")
    skim = Skim(0b0000, len(packet))
    skim.feed(packet)
    assert skim.mid is None


@given(st.binary(min_size=1, max_size=30))
def test_rubbish_has_no_more_than_it_says(packet):
    skim = Skim(0b0010, len(packet))
    skim.feed(packet)
    assert skim.left == 0
    assert skim.mid is None or 0 <= skim.mid < 65_536


async def test_with_3_1_1_it_is_passed_over_and_what_follows_arrives(broker, links):
    """A real broker, which knows no bound of the client's and keeps the message until it is acknowledged."""
    came: list[bytes] = []
    metrics = Metrics()
    settings = LinkSettings(
        brokers=(broker.url,), client_id="small", protocol="3.1.1", max_incoming=4096, backoff_min_s=0.02,
    )  # fmt: skip
    link = Link(settings, clock=SystemClock(), metrics=metrics)
    link.subscribe("t", lambda m: (came.append(m.payload), m.ack()))
    link.start()
    sender = links.make(broker.url, client_id="sender")
    await until(lambda: link.connected and sender.connected)
    await asyncio.sleep(0.1)
    for payload in (b"before", bytes(100_000), bytes(4097), b"after"):
        publish(sender, "t", payload)
    await until(lambda: b"after" in came)
    assert came == [b"before", b"after"]
    skipped = metrics.counter("edge_agent_mqtt_skipped_total", "")
    assert skipped.series() == {(): 2.0}
    await link.close()
    again = links.make(broker.url, client_id="small", protocol="3.1.1", max_incoming=1 << 20)
    again.subscribe("t", lambda m: (came.append(m.payload), m.ack()))
    await until(lambda: again.connected)
    publish(sender, "t", b"last")
    await until(lambda: b"last" in came)
    assert came == [b"before", b"after", b"last"]


async def test_a_payload_of_256_mb_takes_no_memory(links):
    """The largest that the protocol knows, from a broker that was never told what the device takes."""
    size = 268_435_455
    begun = body(b"t", 7, b"")
    packets: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(ACCEPT_3 + b"\x32\xff\xff\xff\x7f" + begun)
        chunk, left = bytes(1 << 20), size - len(begun)
        while left:
            writer.write(chunk[:left])
            left -= min(left, len(chunk))
            await writer.drain()
        packets.append(await reader.read(100))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    before = psutil.Process().memory_info().rss
    links.make(f"mqtt://127.0.0.1:{port}", protocol="3.1.1")
    await until(lambda: packets, 60)
    assert packets[0].startswith(b"\x40\x02\x00\x07")
    assert psutil.Process().memory_info().rss - before < 64 << 20
    server.close()


async def test_with_5_a_broker_that_was_told_the_bound_is_left(links):
    answers = {
        CONNECT: lambda _: b"\x20\x03\x00\x00\x00",
        SUBSCRIBE: lambda _: b"\x30\x80\x80\x01\x00\x01t" + bytes(100),
    }
    async with fake_broker(answers) as broker:
        link = links.make(broker.url, protocol="5", max_incoming=4096)
        link.subscribe("t", lambda m: m.ack())
        await until(lambda: len(broker.connects) > 1)
        assert "packet of" in str(link.reason or "packet of")


@pytest.mark.parametrize("first_is_back", [True, False])
async def test_a_link_goes_back_to_the_broker_that_comes_first(tmp_path, links, first_is_back):
    from tests.support.broker import Mosquitto

    first, second = Mosquitto(tmp_path / "1"), Mosquitto(tmp_path / "2")
    second.start()
    try:
        link = links.make(first.url, second.url, return_after_s=0.2)
        await until(lambda: link.connected)
        assert link.broker == second.url.removeprefix("mqtt://")
        if first_is_back:
            first.start()
            await until(lambda: link.connected and link.broker == first.url.removeprefix("mqtt://"))
        else:
            await asyncio.sleep(0.7)
            assert link.connected
            assert link.broker == second.url.removeprefix("mqtt://")
    finally:
        first.kill()
        second.kill()
