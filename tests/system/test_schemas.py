"""The published schemas are those of the messages that a running device sends."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from agent.api.remote import Remote
from agent.api.tunable import desired_schema
from agent.sync.orders import Claims
from tests.support.broker import Mosquitto
from tests.support.device import ROOT, eventually
from tests.system.conftest import PIPELINE, MakeDevice
from tests.system.readings import healthy, shaken
from tests.system.test_life import sync
from tests.system.test_operator import Workstation

SCHEMAS = ROOT / "docs" / "schemas"
FORMATS = ROOT / "tests" / "formats" / "messages"


def schema(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SCHEMAS / f"{name}.json").read_text())
    return found


def validator(name: str) -> Any:
    return jsonschema_rs.Draft202012Validator(schema(name), validate_formats=True)


class Listener:
    """Everything that is published, by topic."""

    def __init__(self, port: int) -> None:
        self.messages: list[tuple[str, Any]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_: client.subscribe("edge/d/#", 1)
        self._client.on_message = lambda _c, _u, m: self.messages.append((m.topic, m.payload))
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def of(self, part: str) -> list[Any]:
        return [json.loads(payload) for topic, payload in self.messages if f"/{part}" in topic]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_every_schema_is_one(path: Path) -> None:
    found = schema(path.stem)
    jsonschema_rs.meta.validate(found)
    assert found["$id"] == f"urn:edge-agent:{path.stem}:1"


@pytest.mark.parametrize("kind", ["telemetry", "escalation", "report"])
def test_messages_of_every_release_are_of_the_schema(kind: str) -> None:
    validator(kind).validate(json.loads((FORMATS / f"{kind}.json").read_text()))


def test_the_schema_of_what_may_be_desired_is_made_from_the_settings() -> None:
    assert schema("twin-desired")["$defs"]["settings"] == desired_schema()


def test_the_schema_of_commands_names_those_that_there_are() -> None:
    claims = schema("command")["properties"]
    assert set(claims) == set(Claims.__struct_fields__)
    verbs = Remote(None, None, None, None).verbs()  # type: ignore[arg-type]
    assert claims["cmd"]["enum"] == sorted(verbs)


def test_what_a_running_device_sends_is_of_the_schemas(
    make_device: MakeDevice, broker: Mosquitto, tmp_path: Path
) -> None:
    desk = Workstation(tmp_path / "desk", broker)
    keys = desk.run("command-key", "op.pem", "--no-passphrase")
    listener = Listener(broker.port)
    device = make_device(PIPELINE + sync(broker) + keys).start()
    device.readings("hall-2/pump-1", [*healthy(1200), *shaken(1200, 90), *healthy(300, 1290)])
    device.post("/api/escalations", b'{"input": "x", "context": {"question": "?"}}')
    desk.command("ping")
    desk.run("command", "logs", "lines=-1", "--device", "dev-1", "--key", "op.pem", status=2)
    desk.run("twin", "set", "log_level=loud", "sync.quiet_hours=[]", "--device", "dev-1")
    eventually(lambda: len(listener.of("escalation/")) >= 3, what="a warning, its end, a question")
    eventually(lambda: len(listener.of("telemetry/")) >= 10, what="telemetry")
    listener.close()
    found = {
        "telemetry": listener.of("telemetry/"),
        "escalation": listener.of("escalation/"),
        "report": [*listener.of("report/"), *listener.of("result")],
        "twin-desired": listener.of("twin/desired"),
        "twin-reported": listener.of("twin/reported"),
    }
    assert {m["kind"] for m in found["escalation"]} == {"raised", "cleared", "question"}
    assert {m["kind"] for m in found["report"]} == {"learned", "command"}
    assert found["twin-desired"][-1]["desired"]["log_level"] == "loud"
    found["twin-desired"].clear()  # which the schema refuses, as the device did
    for name, messages in found.items():
        for message in messages:
            validator(name).validate(message)


def test_the_telegraf_configuration_reads_fields_that_there_are() -> None:
    """Its paths lead to values of the kinds that it says, in a message as it is published."""
    config = tomllib.loads((ROOT / "docs" / "telegraf.conf").read_text())
    (consumer,) = config["inputs"]["mqtt_consumer"]
    assert consumer["topics"] == ["edge/d/+/telemetry/#"]
    (parser,) = consumer["json_v2"]
    message = json.loads((FORMATS / "telemetry.json").read_text())
    kinds: dict[str, tuple[type, ...]] = {"float": (float, int), "int": (int,), "": (str,)}
    for field in [*parser["tag"], *parser["field"], {"path": parser["timestamp_path"]}]:
        value = message
        for part in field["path"].split("."):
            value = value[part]
        assert isinstance(value, kinds[field.get("type", "")])
