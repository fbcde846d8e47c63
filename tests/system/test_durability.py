"""kill -9, again and again, under load: nothing that was acknowledged is lost, nothing doubled."""

import contextlib
import http.client
import json
import random
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import Mosquitto
from tests.support.device import Device, eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import Row, healthy, shaken
from tests.system.test_life import sync
from tools.fleet.receiver import Receiver

KILLS = 8
BATCH = 20  # rows of one request

Alarms = list[tuple[str, str, str]]


def source(broker: Mosquitto) -> str:
    return "\n".join(
        [
            "[[source]]",
            'topics = ["sensors/#"]',
            "[source.link]",
            f'brokers = ["{broker.url}"]',
            "backoff_min_s = 0.05",
            "backoff_max_s = 0.2",
            "",
        ]
    )


def recording() -> list[Row]:
    """Enough to learn from, then a fault, a recovery and a fault."""
    parts = [
        healthy(1200),
        shaken(1200, 60),
        healthy(300, 1260),
        shaken(1560, 60),
        healthy(380, 1620),
    ]
    return [row for part in parts for row in part]


class SocketProducer(threading.Thread):
    """Posts batches in order; one that was not acknowledged is posted again until it is."""

    def __init__(self, device: Device, rows: list[Row]) -> None:
        super().__init__(daemon=True)
        self._device = device
        self._batches = [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]
        self.repeats = 0

    def run(self) -> None:
        for batch in self._batches:
            while not self._posted(batch):
                self.repeats += 1
                time.sleep(0.05)
            time.sleep(0.02)

    def _posted(self, batch: list[Row]) -> bool:
        try:
            return self._device.readings("by-socket", batch).status == 200
        except (OSError, http.client.HTTPException):
            return False


class MqttProducer(threading.Thread):
    """Publishes a row at a time at QoS 1 to the broker, which keeps them while the daemon is away."""

    def __init__(self, broker: Mosquitto, rows: list[Row]) -> None:
        super().__init__(daemon=True)
        self._rows = rows
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sensor")
        self._client.connect("127.0.0.1", broker.port)

    def run(self) -> None:
        self._client.loop_start()
        for row in self._rows:
            self._client.publish("sensors/by-mqtt", json.dumps(row), qos=1).wait_for_publish(30)
            time.sleep(0.001)
        self._client.disconnect()
        self._client.loop_stop()


def alarms(payloads: list[bytes]) -> dict[str, Alarms]:
    """Stream -> its escalations by the time of their row."""
    found: dict[str, Alarms] = {}
    for payload in payloads:
        message = json.loads(payload)
        if message["class"] == "escalation":
            found.setdefault(message["stream"], []).append(
                (message["at"], message["kind"], message["since"])
            )
    return {stream: sorted(items) for stream, items in found.items()}


def account(device: Device) -> dict[str, tuple[int, int, int]]:
    """Class -> enqueued, delivered, and what became of the rest but for what waits."""
    classes = device.get("/api/status").json["outbox"]["classes"]
    return {kind: _summed(counts) for kind, counts in classes.items()}


def _summed(counts: dict[str, int]) -> tuple[int, int, int]:
    enqueued, delivered = counts["enqueued"], counts["delivered"]
    return enqueued, delivered, enqueued - delivered - counts["queued"]


@contextlib.contextmanager
def collecting(broker: Mosquitto) -> Iterator[tuple[Receiver, list[bytes]]]:
    """What the device sends from its outbox, and an account of it; not what is retained about it."""
    payloads: list[bytes] = []

    def keep(topic: str, payload: bytes) -> None:
        if not topic.endswith(("/status", "/twin/reported")):
            payloads.append(payload)

    with Receiver(broker.url, "edge/d/dev-1/#", on_new=keep) as receiver:
        yield receiver, payloads


def drained(device: Device) -> bool:
    return all(enqueued == delivered for enqueued, delivered, _ in account(device).values())


def test_kills_lose_nothing_and_double_nothing(
    make_device: MakeDevice, broker: Mosquitto, tmp_path: Path
) -> None:
    rows = recording()
    config = PIPELINE.replace('name = "pumps"', 'name = "pumps"\nsummary_every_s = 10.0')
    device = make_device(config + sync(broker) + source(broker))
    chance = random.Random(7)
    with collecting(broker) as (receiver, payloads):
        device.start()
        eventually(lambda: device.metric("mqtt_connects_total") >= 2, what="both links")
        producers = [SocketProducer(device, rows), MqttProducer(broker, rows)]
        for producer in producers:
            producer.start()
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 0.6))
            device.kill()
            device.start()
        for producer in producers:
            producer.join(60)
            assert not producer.is_alive()
        streams = settled(device, {"by-socket": len(rows), "by-mqtt": len(rows)})
        eventually(lambda: drained(device), what="the outbox drained")
        eventually(
            lambda: len(payloads) == sum(enqueued for enqueued, _, _ in account(device).values()),
            what="everything at the receiver",
        )
        found = alarms(payloads)
        ids = {json.loads(payload)["id"] for payload in payloads}
        assert len(ids) == len(payloads) == sum(receiver.ledger.by_class.values())
    assert producers[0].repeats > 0, "no kill met the socket's producer"  # type: ignore[union-attr]
    assert all(lost == 0 for _, _, lost in account(device).values())
    for name in ("by-socket", "by-mqtt"):
        taken = streams[name]["rows"] - sum(streams[name]["dropped"].values())
        assert taken == len(rows), f"{name}: {streams[name]}"
    assert found["by-socket"] == found["by-mqtt"] == undisturbed(make_device, rows)
    assert len(found["by-socket"]) == 4, "two faults begin and end"


def settled(device: Device, wanted: dict[str, int]) -> dict[str, dict[str, object]]:
    """The streams' status once each has taken as many rows as were produced."""
    streams: dict[str, dict[str, object]] = {}

    def done() -> bool:
        streams.update({s["stream"]: s for s in device.get("/api/status").json["streams"]})
        return all(
            name in streams
            and streams[name]["rows"] - sum(streams[name]["dropped"].values()) >= rows  # type: ignore[attr-defined,operator]
            for name, rows in wanted.items()
        )

    eventually(done, what="every row")
    return streams


def undisturbed(make_device: MakeDevice, rows: list[Row]) -> Alarms:
    """The alarms of a device that nobody kills, from its own outbox."""
    device = make_device(name="quiet").start()
    for i in range(0, len(rows), 500):
        assert device.readings("quiet", rows[i : i + 500]).status == 200
    device.stop()
    with contextlib.closing(sqlite3.connect(device.state / "agent.db")) as connection:
        payloads = [payload for (payload,) in connection.execute("SELECT payload FROM outbox")]
    return alarms(payloads)["quiet"]
