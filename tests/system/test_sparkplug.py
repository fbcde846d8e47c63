"""Telemetry as Sparkplug B, read with the definition of the Eclipse Tahu project."""

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from sparkplub_b_packets.core import sparkplug_b_pb2 as tahu

from tests.support.broker import Mosquitto
from tests.support.device import Device
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy
from tests.system.test_life import sync

SUMMARIES = PIPELINE + "summary_every_s = 60\n"


class Host:
    """A host application: hears everything of the group."""

    def __init__(self, broker: Mosquitto) -> None:
        self.heard: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self.client = paho.Client(CallbackAPIVersion.VERSION2, client_id="host")
        self.client.on_message = lambda _c, _u, message: self.heard.put(message)
        self.client.connect("127.0.0.1", broker.port)
        self.client.subscribe("spBv1.0/plant/#", qos=1)
        self.client.loop_start()

    def next(self, kind: str) -> "tahu.Payload":
        """The next message of a kind; others are passed over."""
        while True:
            message = self.heard.get(timeout=20)
            if message.topic.split("/")[2] == kind:
                return tahu.Payload.FromString(message.payload)

    def ask_for_rebirth(self) -> None:
        payload = tahu.Payload(timestamp=1)
        payload.metrics.add(name="Node Control/Rebirth", datatype=11, boolean_value=True)
        self.client.publish("spBv1.0/plant/NCMD/dev-1", payload.SerializeToString())


@contextmanager
def host(broker: Mosquitto) -> Iterator[Host]:
    made = Host(broker)
    try:
        yield made
    finally:
        made.client.disconnect()
        made.client.loop_stop()


def value(payload: "tahu.Payload", name: str) -> "tahu.Payload.Metric":
    return next(metric for metric in payload.metrics if metric.name == name)


def config(broker: Mosquitto) -> str:
    return SUMMARIES + sync(broker, 'sparkplug_group = "plant"')


def readings(device: Device, start: int, count: int) -> None:
    assert device.readings("pump-1", healthy(count, start)).status == 200


def test_a_host_sees_birth_data_rebirth_and_death(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    with host(broker) as heard:
        device = make_device(config(broker)).start()
        birth = heard.next("NBIRTH")
        assert birth.seq == 0
        readings(device, 0, 300)
        assert heard.next("DBIRTH").seq == 1
        data = heard.next("DDATA")
        assert data.seq == 2
        assert value(data, "rows").long_value == 40  # until the first full minute
        assert not value(data, "rows").is_historical
        heard.ask_for_rebirth()
        assert heard.next("NBIRTH").seq == 0
        assert heard.next("DBIRTH").seq == 1
        device.kill()
        death = heard.next("NDEATH")
        assert value(death, "bdSeq").long_value == value(birth, "bdSeq").long_value


def test_what_waited_for_the_broker_is_historical(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    device = make_device(config(broker)).start()
    broker.stop()
    readings(device, 0, 300)
    broker.start()
    with host(broker) as heard:
        assert value(heard.next("DDATA"), "rows").is_historical
