"""What waiting for a person costs beside the person: from the question to the answer at the caller.

A daemon of its own, a real Mosquitto, and somebody on the other side who answers at once. The caller
posts over the Unix socket with `Prefer: wait`; in between lie two commits with full sync (the question,
the answer) and four messages over the broker's socket. The limit is a bare client that sends the same
bytes over the same broker to the same answerer and waits for the same answer, question by question in
turn.
"""

import http.client
import json
import queue
import socket
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from bench.report import Row, Table
from tests.support.broker import Mosquitto
from tests.support.device import Device, UnixConnection

ADDED_MS = 50.0
ANSWER = json.dumps({"answer": "Platform 7", "by": "bench"}).encode()
QUESTION = "Which platform does the 9:15 leave from?"


def run(quick: bool) -> Table:
    """500 questions, or 100 when `quick`, each beside one of the bare client."""
    questions = 100 if quick else 500
    with tempfile.TemporaryDirectory(prefix="bench-escalation-") as name:
        directory = Path(name)
        broker = Mosquitto(directory / "mosquitto")
        broker.start()
        config = f'[sync]\nbrokers = ["{broker.url}"]\n'
        device = Device(directory / "d", config)
        try:
            device.start()
            with closing(_Answerer(broker.port)), closing(_Bare(broker.port)) as bare:
                asked, plain = _measure(device, bare, questions)
        finally:
            device.kill()
            broker.kill()
    return _table(asked, plain)


def _table(asked: list[float], plain: list[float]) -> Table:
    p50, p99 = _quantile(asked, 0.5), _quantile(asked, 0.99)
    low50, low99 = _quantile(plain, 0.5), _quantile(plain, 0.99)
    limit = "bare MQTT there and back"
    return Table(
        f"{len(asked)} questions, each answered at once",
        [
            Row("question to answer, median", p50, "ms", limit, low50, p50 / low50),
            Row(
                "question to answer, p99: added beside the answerer", p99, "ms", limit, low99,
                p99 / low99, f"{ADDED_MS:g} ms", p99 <= ADDED_MS,
            ),
        ],
        ["Two commits with full sync are in it: the question's and the answer's."],
    )  # fmt: skip


def _measure(device: Device, bare: "_Bare", questions: int) -> tuple[list[float], list[float]]:
    connection = UnixConnection(device.socket)
    ask = _asker(connection)
    for number in range(10):  # caches, code that is imported late, the broker's first messages
        ask(f"warm-{number}")
        bare.ask(f"warm-{number}")
    asked, plain = [], []
    for number in range(questions):
        asked.append(_timed(lambda n=number: ask(f"q-{n}")))
        plain.append(_timed(lambda n=number: bare.ask(f"q-{n}")))
    connection.close()
    return asked, plain


def _asker(connection: http.client.HTTPConnection) -> Callable[[str], None]:
    def ask(id_: str) -> None:
        body = json.dumps({"id": id_, "context": {"question": QUESTION}}).encode()
        connection.request("POST", "/api/escalations", body, {"Prefer": "wait=30"})
        answer = json.loads(connection.getresponse().read())
        assert answer["answer"] == "Platform 7"

    return ask


def _timed(action: Callable[[], None]) -> float:
    began = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - began)


def _quantile(values: list[float], share: float) -> float:
    return statistics.quantiles(values, n=100)[round(100 * share) - 1]


def _client(port: int) -> paho.Client:
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", port)
    connected = client.socket()
    assert connected is not None
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or it waits 40 ms for company
    client.loop_start()
    return client


class _Answerer:
    """Answers every escalation the moment it comes."""

    def __init__(self, port: int) -> None:
        self._client = _client(port)
        self._client.on_message = self._answer
        self._client.subscribe("edge/d/+/escalation/+", 1)
        time.sleep(0.3)  # the subscription is in place

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @staticmethod
    def _answer(client: paho.Client, _: object, message: paho.MQTTMessage) -> None:
        client.publish(f"{message.topic}/answer", ANSWER, 1)


class _Bare:
    """A client with nothing around it: publish, wait for the answer."""

    def __init__(self, port: int) -> None:
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._client = _client(port)
        self._client.on_message = lambda _c, _u, message: self._answers.put(message.payload)
        self._client.subscribe("edge/d/bare/escalation/+/answer", 1)
        self._payload = json.dumps({"question": QUESTION, "padding": "x" * 350}).encode()
        time.sleep(0.3)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def ask(self, id_: str) -> None:
        self._client.publish(f"edge/d/bare/escalation/{id_}", self._payload, 1)
        self._answers.get(timeout=30)
