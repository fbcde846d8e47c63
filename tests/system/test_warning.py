"""From a sensor's topic to a warning on the cloud's broker."""

import json

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.support.broker import Mosquitto
from tests.support.device import eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import Row, healthy, shaken
from tests.system.test_durability import collecting, source
from tests.system.test_life import sync


def publish(broker: Mosquitto, rows: list[Row], *, alone: bool) -> None:
    """Rows as a gateway sends them, or each sensor for itself."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="sensors")
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for row in rows:
        if alone:
            for sensor in (name for name in row if name != "time"):
                payload = json.dumps({"value": row[sensor], "time": row["time"]})
                last = client.publish(f"sensors/pump-1/{sensor}", payload, qos=1)
        else:
            last = client.publish("sensors/pump-1", json.dumps(row), qos=1)
    last.wait_for_publish(60)
    client.disconnect()
    client.loop_stop()


def test_rows_on_a_topic_become_a_warning(make_device: MakeDevice, broker: Mosquitto) -> None:
    warns(make_device, broker, alone=False)


def test_sensors_that_publish_alone_become_a_warning(
    make_device: MakeDevice, broker: Mosquitto
) -> None:
    warns(make_device, broker, alone=True)


def warns(make_device: MakeDevice, broker: Mosquitto, *, alone: bool) -> None:
    device = make_device(PIPELINE + sync(broker) + source(broker)).start()
    eventually(lambda: device.metric("mqtt_connects_total") >= 2, what="both links")
    with collecting(broker) as (receiver, payloads):
        publish(broker, healthy(1200) + shaken(1200, 60), alone=alone)
        counts = receiver.ledger.by_class
        eventually(lambda: {"escalation", "report"} <= counts.keys(), what="warning and report")
    warning = next(m for m in map(json.loads, payloads) if m["class"] == "escalation")
    assert warning["stream"] == "pump-1"
    assert warning["kind"] == "raised"
    assert warning["score"] > 1
    assert warning["sensors"][0]["name"] == "vibration"
    assert warning["sensors"][0]["direction"] == "higher"
    assert warning["device"] == "dev-1"
    report = next(m for m in map(json.loads, payloads) if m["class"] == "report")
    assert report["kind"] == "learned"
