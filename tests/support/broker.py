"""A real Mosquitto on a free port, and a broker that misbehaves on request."""

import asyncio
import contextlib
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

START_S = 10.0  # seconds a broker may take to listen


def find_mosquitto() -> str | None:
    """The program's path; Debian keeps it outside an ordinary user's search path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def free_port() -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass
class Mosquitto:
    """A broker process that can be stopped, killed and started again with its state.

    Attributes:
        directory: configuration, persistence and log.
        port: plain MQTT, on the loopback interface; stays the same over restarts.
        config: lines added to the configuration.
        persistent: whether sessions and retained messages survive a kill.
    """

    directory: Path
    port: int = field(default_factory=free_port)
    config: str = ""
    persistent: bool = True
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it listens."""
        program = find_mosquitto()
        assert program is not None
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "mosquitto.conf"
        path.write_text(self._text())
        with (self.directory / "mosquitto.log").open("ab") as log:
            self._process = subprocess.Popen([program, "-c", str(path)], stdout=log, stderr=log)
        self._wait_until_listening()

    def stop(self) -> None:
        """Stop in order. Idempotent."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As a power cut would. Idempotent."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Keep the connections and answer nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(number)
            self._process.wait(timeout=START_S)
            self._process = None

    def _text(self) -> str:
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "max_inflight_messages 100",
            "max_queued_messages 0",
            "set_tcp_nodelay true",
        ]
        if self.persistent:
            lines += ["persistence true", f"persistence_location {self.directory}/", "user root"]
        return "\n".join([*lines, self.config, ""])

    def _wait_until_listening(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self._process is not None
            assert self._process.poll() is None, (self.directory / "mosquitto.log").read_text()
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", self.port), 1),
            ):
                return
            time.sleep(0.01)
        raise TimeoutError("mosquitto does not listen")


@contextlib.contextmanager
def mosquitto(directory: Path, config: str = "", *, persistent: bool = True) -> Iterator[Mosquitto]:
    """A running Mosquitto; skips the test where none is installed."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    broker = Mosquitto(directory, config=config, persistent=persistent)
    broker.start()
    try:
        yield broker
    finally:
        broker.kill()


@dataclass
class FakeBroker:
    """Answers on a TCP socket exactly what it is told, by the packet's type.

    Attributes:
        answers: from a packet's type (upper four bits) to what to send back, given the whole packet;
            None closes the connection. Types without an entry are ignored.
        connects: first packets received, one for each connection.
        packets: everything received.
    """

    answers: dict[int, Callable[[bytes], bytes | None]] = field(default_factory=dict)
    connects: list[bytes] = field(default_factory=list)
    packets: list[bytes] = field(default_factory=list)
    port: int = 0
    _serving: dict[asyncio.Task[None], asyncio.StreamWriter] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def protocols(self) -> list[int]:
        """The protocol level of each connection: 4 is MQTT 3.1.1, 5 is MQTT 5."""
        return [packet[packet.index(b"MQTT") + 4] for packet in self.connects]

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve a connection; known from its first moment, so that `close` misses none."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving[task] = writer
        task.add_done_callback(self._served)

    async def close(self) -> None:
        """End every connection, also those that are only being accepted."""
        for _ in range(3):  # turns of the loop between the kernel's accept and ours
            await asyncio.sleep(0)
        for writer in self._serving.values():
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0)  # an aborted transport closes in the loop's next turn

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.pop(task).transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError):
            while await self._one(reader, writer):
                await writer.drain()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()  # what was answered last still goes out

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        packet = await _packet(reader)
        self.packets.append(packet)
        if packet[0] >> 4 == CONNECT:
            self.connects.append(packet)
        answer = self.answers.get(packet[0] >> 4, lambda _: b"")(packet)
        if answer:
            writer.write(answer)
        return answer is not None


CONNECT, PUBLISH, SUBSCRIBE, PINGREQ = 1, 3, 8, 12

ACCEPT_5 = b"\x20\x03\x00\x00\x00"
ACCEPT_3 = b"\x20\x02\x00\x00"


def connack(code: int) -> bytes:
    """A CONNACK of MQTT 5 with a reason code."""
    return bytes([0x20, 3, 0, code, 0])


def disconnect(code: int) -> bytes:
    """A DISCONNECT of MQTT 5 with a reason code."""
    return bytes([0xE0, 2, code, 0])


def puback(packet: bytes, code: int | None = None) -> bytes:
    """The acknowledgement of a QoS 1 PUBLISH, with a reason code where one is given (MQTT 5)."""
    start = 2
    while packet[start - 1] & 0x80:
        start += 1
    topic_length = int.from_bytes(packet[start : start + 2], "big")
    mid = packet[start + 2 + topic_length : start + 4 + topic_length]
    return b"\x40\x02" + mid if code is None else b"\x40\x03" + mid + bytes([code])


@contextlib.asynccontextmanager
async def fake_broker(
    answers: dict[int, Callable[[bytes], bytes | None]] | None = None,
) -> AsyncIterator[FakeBroker]:
    """A fake broker on a free port."""
    broker = FakeBroker(answers or {})
    server = await asyncio.start_server(broker.accept, "127.0.0.1", 0)
    broker.port = server.sockets[0].getsockname()[1]
    try:
        yield broker
    finally:
        server.close()
        await broker.close()


async def _packet(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(1)
    length, shift = 0, 0
    while True:
        byte = await reader.readexactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head + await reader.readexactly(length)
