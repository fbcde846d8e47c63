"""The demo's cloud: a real broker in the process, behind a network that can be cut."""

import asyncio

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.cli.demo.cloud import Network, embedded_broker


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(100):
            writer.write(data)
    finally:  # also when the test ends in the middle
        writer.transport.abort()


async def test_a_relayed_connection_carries_bytes_both_ways() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    network = Network(*server.sockets[0].getsockname())
    await network.mend()
    reader, writer = await asyncio.open_connection("127.0.0.1", network.port)
    writer.write(b"ping")
    assert await asyncio.wait_for(reader.readexactly(4), 5) == b"ping"
    writer.close()
    await network.cut()
    server.close()


async def test_a_cut_breaks_connections_and_refuses_new_ones_until_mended() -> None:
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    network = Network(*server.sockets[0].getsockname())
    await network.mend()
    port = network.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"ping")
    await reader.readexactly(4)
    await network.cut()
    with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
        await asyncio.wait_for(reader.readexactly(1), 5)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await network.mend()
    assert network.port == port
    _, again = await asyncio.open_connection("127.0.0.1", port)
    again.close()
    await network.cut()
    server.close()


async def test_cutting_twice_and_mending_twice_is_harmless() -> None:
    network = Network("127.0.0.1", 9)
    await network.cut()
    await network.mend()
    await network.mend()
    await network.cut()
    await network.cut()


# amqtt leaves the closing of its sockets to tasks that outlive its shutdown.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_the_embedded_broker_delivers_at_qos_1() -> None:
    """A message through the relay and the broker arrives at a subscriber."""
    loop = asyncio.get_running_loop()
    subscribed, arrived = loop.create_future(), loop.create_future()
    async with embedded_broker() as (host, port):
        network = Network(host, port)
        await network.mend()
        client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        client.on_subscribe = lambda *_: loop.call_soon_threadsafe(subscribed.set_result, None)
        client.on_message = lambda *args: loop.call_soon_threadsafe(
            arrived.set_result, args[-1].payload
        )
        await asyncio.to_thread(client.connect, "127.0.0.1", network.port)
        client.loop_start()
        client.subscribe("d/#", qos=1)
        await asyncio.wait_for(subscribed, 10)
        client.publish("d/pump", b"warning", qos=1)
        assert await asyncio.wait_for(arrived, 10) == b"warning"
        client.disconnect()
        client.loop_stop()
        await network.cut()
