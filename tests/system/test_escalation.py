"""A kiosk asks, a person answers in a terminal, the kiosk has the answer."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from tests.support.broker import Mosquitto
from tests.support.device import ROOT, Answer, Device, eventually
from tests.system.conftest import MakeDevice
from tests.system.test_life import sync

QUESTION = {
    "id": "kiosk-7-0001",
    "reason": "low-confidence",
    "context": {"question": "Where does the 9:15 leave from? Mail me: ann@mail.example"},
    "input": "the whole conversation",
}


class Person:
    """Somebody at a workstation."""

    def __init__(self, directory: Path, broker: Mosquitto) -> None:
        inbox = str(directory / "inbox.json")
        self.environment = {
            **os.environ, "EDGE_FLEET_MQTT": broker.url, "EDGE_FLEET_INBOX": inbox,
            "PYTHONPATH": str(ROOT),
        }  # fmt: skip

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "tools.fleet", "escalations", *arguments],
            env=self.environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout


class Kiosk(threading.Thread):
    """Posts a question and waits for its answer."""

    def __init__(self, device: Device) -> None:
        super().__init__(daemon=True)
        self._device = device
        self.reply: Answer | None = None

    def run(self) -> None:
        body = json.dumps(QUESTION).encode()
        self.reply = self._device.request("POST", "/api/escalations", body, {"Prefer": "wait=50"})


def test_a_person_answers_what_a_kiosk_waits_for(
    make_device: MakeDevice, broker: Mosquitto, tmp_path: Path
) -> None:
    device = make_device(sync(broker), models=None).start()
    person = Person(tmp_path, broker)
    assert "Nothing waits" in person.run("list")
    kiosk = Kiosk(device)
    kiosk.start()
    eventually(lambda: "kiosk-7" in person.run("list"), what="the question")
    shown = person.run("show", "kiosk-7")
    assert "[email]" in shown
    assert "conversation" not in shown
    person.run("answer", "kiosk-7", "Platform 7", "--by", "Desk")
    kiosk.join(30)
    assert kiosk.reply is not None
    assert kiosk.reply.status == 200
    assert (kiosk.reply.json["answer"], kiosk.reply.json["by"]) == ("Platform 7", "Desk")
    assert "Nothing waits" in person.run("list")


def test_an_answer_given_while_the_device_was_off_is_there_when_it_comes_back(
    make_device: MakeDevice, broker: Mosquitto, tmp_path: Path
) -> None:
    device = make_device(sync(broker), models=None).start()
    person = Person(tmp_path, broker)
    person.run("list")
    assert device.post("/api/escalations", json.dumps(QUESTION).encode()).status == 201
    eventually(lambda: "kiosk-7" in person.run("list"), what="the question")
    device.kill()
    person.run("answer", "kiosk-7-0001", "7")
    device.start()
    answered = lambda: device.get("/api/escalations/kiosk-7-0001").json["state"] == "answered"  # noqa: E731
    eventually(answered, what="the answer")
    repeat = device.post("/api/escalations", json.dumps(QUESTION).encode())
    assert (repeat.status, repeat.json["answer"]) == (200, "7")


def test_following_ends_without_a_trace_when_it_is_interrupted(
    broker: Mosquitto, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tools.fleet", "escalations", "list", "--follow"]
    process = subprocess.Popen(
        command, env=Person(tmp_path, broker).environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # the list is there, and it waits
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors.strip()) == (130, "")
