"""What a peer may send over HTTP/2 to hurt: each ends in an error or a closed connection, bounded."""

import asyncio
import gzip
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import hpack
import pytest
from tritonclient.grpc import service_pb2 as triton

from agent.api.grpc import frames as f
from agent.api.grpc.answering import STREAM_WINDOW
from agent.api.grpc.connection import MAX_FRAME, MAX_STREAMS, NUISANCE
from agent.api.grpc.headers import MAX_LIST
from tests.fakes.engine import FakeModels, echo
from tests.support.served import ECHO, Served, serving

INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


class Peer:
    """A client that writes frames of its own choice."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()

    def send(self, *parts: bytes) -> None:
        self.writer.write(b"".join(parts))

    def headers(
        self, number: int, path: str = INFER, flags: int = f.END_HEADERS, **more: str
    ) -> bytes:
        block = self.encoder.encode([
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
            ("te", "trailers"), ("content-type", "application/grpc"),
            *((name.replace("_", "-"), value) for name, value in more.items()),
        ])  # fmt: skip
        return f.frame(f.HEADERS, flags, number, block)

    async def frame(self) -> f.Frame:
        head = await self.reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        payload = await self.reader.readexactly(size)
        number = int.from_bytes(head[5:], "big")
        if head[3] == f.HEADERS:
            self.last = dict(self.decoder.decode(payload))
        return f.Frame(head[3], head[4], number, payload)

    async def until(self, *kinds: int) -> f.Frame:
        async with asyncio.timeout(10):
            while (found := await self.frame()).kind not in kinds:
                pass
        return found

    async def status(self) -> int:
        """gRPC's status of the next call that ends."""
        async with asyncio.timeout(10):
            while True:
                found = await self.frame()
                if found.kind == f.HEADERS and found.flags & f.END_STREAM:
                    return int(self.last["grpc-status"])

    async def goaway(self) -> int:
        """Why the server ends the connection; it does so after saying it."""
        found = await self.until(f.GOAWAY)
        async with asyncio.timeout(10):
            while await self.reader.read(65536):
                pass
        return int.from_bytes(found.payload[4:8], "big")


@asynccontextmanager
async def peer(served: Served, *, preface: bool = True) -> AsyncIterator[Peer]:
    path = served.path.with_name(f"{served.path.name}.grpc")
    reader, writer = await asyncio.open_unix_connection(str(path))
    made = Peer(reader, writer)
    if preface:
        made.send(f.PREFACE, f.settings({}))
    try:
        yield made
    finally:
        writer.close()


@pytest.fixture
async def served(serve) -> AsyncIterator[Served]:
    async with serve(FakeModels(echo(ECHO)), grpc=True) as running:
        yield running


def message(payload: bytes, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def request(rows: int = 1) -> bytes:
    made = triton.ModelInferRequest(model_name="echo", raw_input_contents=[bytes(4 * rows)])
    made.inputs.add(name="x", datatype="INT8", shape=[rows, 4])
    data: bytes = made.SerializeToString()
    return data


def call(made: Peer, number: int, payload: bytes) -> bytes:
    return made.headers(number) + f.frame(f.DATA, f.END_STREAM, number, payload)


async def still_answers(served: Served) -> None:
    async with peer(served) as other:
        other.send(call(other, 1, message(request())))
        assert await other.status() == 0


async def test_a_client_that_does_not_speak_http2_is_cut_off(served):
    async with peer(served, preface=False) as made:
        made.send(b"GET / HTTP/1.1\r\n\r\n")
        assert await made.goaway() == f.PROTOCOL_ERROR
    await still_answers(served)


async def test_a_frame_over_the_bound_is_refused_by_its_header(served):
    async with peer(served) as made:
        made.send(
            f.frame(f.DATA, 0, 1, b"")[:0], (MAX_FRAME + 1).to_bytes(3, "big"), b"\0\0\0\0\0\1"
        )
        assert await made.goaway() == f.FRAME_SIZE_ERROR


async def test_continuation_flood(served):
    """CVE-2024-27316 and its kin: headers that never end."""
    async with peer(served) as made:
        made.send(f.frame(f.HEADERS, 0, 1, b"\x82"))
        for _ in range(100):
            made.send(f.frame(f.CONTINUATION, 0, 1, b"\x40\1a\1b" * 100))
        assert await made.goaway() == f.ENHANCE_YOUR_CALM


async def test_header_bomb_by_references_to_one_large_entry(served):
    async with peer(served) as made:
        large = b"\x40\x01a" + b"\x7f\x81\x1e" + b"x" * 4000
        made.send(f.frame(f.HEADERS, f.END_HEADERS, 1, large + b"\xbe" * 1000))
        assert await made.goaway() == f.COMPRESSION_ERROR


async def test_headers_that_are_no_hpack(served):
    async with peer(served) as made:
        made.send(f.frame(f.HEADERS, f.END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff"))
        assert await made.goaway() == f.COMPRESSION_ERROR


async def test_rapid_reset(served):
    """CVE-2023-44487: calls that are opened and reset at once."""
    async with peer(served) as made:
        for number in range(NUISANCE + 50):
            stream = 2 * number + 1
            made.send(made.headers(stream), f.rst_stream(stream, f.CANCEL))
        assert await made.goaway() == f.ENHANCE_YOUR_CALM
    await still_answers(served)


@pytest.mark.parametrize(
    "noise",
    [
        f.frame(f.PING, 0, 0, bytes(8)),
        f.settings({}),
        f.frame(f.PRIORITY, 0, 1, bytes(5)),
        f.window_update(0, 1),
        f.frame(0x77, 0, 0, b"unknown"),
    ],
    ids=["ping", "settings", "priority", "window", "unknown"],
)
async def test_flood_of_frames_that_bring_nothing(served, noise):
    async with peer(served) as made:
        made.send(noise * (NUISANCE + 50))
        assert await made.goaway() == f.ENHANCE_YOUR_CALM


async def test_flood_of_empty_data(served):
    async with peer(served) as made:
        made.send(made.headers(1), f.frame(f.DATA, 0, 1) * (NUISANCE + 50))
        assert await made.goaway() == f.ENHANCE_YOUR_CALM


async def test_a_message_that_says_it_has_four_gigabytes(served):
    async with peer(served) as made:
        made.send(made.headers(1), f.frame(f.DATA, 0, 1, b"\0\xff\xff\xff\xff"))
        assert await made.status() == 8  # RESOURCE_EXHAUSTED


async def test_a_message_that_is_cut_short(served):
    async with peer(served) as made:
        made.send(made.headers(1), f.frame(f.DATA, f.END_STREAM, 1, message(request())[:-1]))
        assert await made.status() == 3  # INVALID_ARGUMENT


async def test_a_call_without_a_message(served):
    async with peer(served) as made:
        made.send(made.headers(1, flags=f.END_HEADERS | f.END_STREAM))
        assert await made.status() == 3


async def test_compression_bomb(served):
    async with peer(served) as made:
        bomb = gzip.compress(bytes(200 << 20), 9)
        made.send(made.headers(1, grpc_encoding="gzip"))
        made.send(f.frame(f.DATA, f.END_STREAM, 1, message(bomb, compressed=1)))
        assert await made.status() == 8


async def test_more_calls_at_once_than_the_bound(served):
    async with peer(served) as made:
        for number in range(MAX_STREAMS + 1):
            made.send(made.headers(2 * number + 1))
        refused = await made.until(f.RST_STREAM)
        assert refused.stream == 2 * MAX_STREAMS + 1
        assert int.from_bytes(refused.payload, "big") == f.REFUSED_STREAM


async def test_more_than_the_streams_window(served):
    """Small messages that nobody could answer so fast wait in bounded memory."""
    async with peer(served) as made:
        made.send(made.headers(1, path=STREAM))
        piece = message(b"\x0a\x06absent") * 10_000
        sent = 0
        while sent <= STREAM_WINDOW + MAX_FRAME:
            made.send(f.frame(f.DATA, 0, 1, piece[:MAX_FRAME]))
            sent += min(len(piece), MAX_FRAME)
        assert await made.until(f.HEADERS)
    await still_answers(served)


@pytest.mark.parametrize(
    "bad",
    [
        f.frame(f.DATA, 0, 5, b"x"),  # of a stream that is not open
        f.frame(f.HEADERS, f.END_HEADERS, 2, b"\x82"),  # that a client cannot open
        f.frame(f.CONTINUATION, f.END_HEADERS, 1, b"\x82"),  # of nothing
        f.frame(f.PUSH_PROMISE, 0, 1, bytes(4)),
        f.frame(f.HEADERS, f.END_HEADERS | f.PADDED, 1, b"\xff\x82"),  # padding longer than it
        f.frame(f.HEADERS, f.END_HEADERS, 1, b"\x82"),  # no path
        f.window_update(0, 0),
        f.window_update(0, f.LARGEST_WINDOW),
        f.settings({f.SETTINGS_INITIAL_WINDOW: 2**32 - 1}),
        f.settings({f.SETTINGS_MAX_FRAME: 1}),
        f.frame(f.SETTINGS, 0, 0, b"12345"),
        f.frame(f.PING, 0, 0, b"123"),
    ],
)
async def test_a_frame_that_breaks_the_protocol_ends_the_connection(served, bad):
    async with peer(served) as made:
        made.send(bad)
        assert await made.goaway() in {
            f.PROTOCOL_ERROR, f.FRAME_SIZE_ERROR, f.FLOW_CONTROL_ERROR
        }  # fmt: skip
    await still_answers(served)


async def test_headers_cut_by_another_frame(served):
    async with peer(served) as made:
        made.send(f.frame(f.HEADERS, 0, 1, b"\x82"), f.frame(f.PING, 0, 0, bytes(8)))
        assert await made.goaway() == f.PROTOCOL_ERROR


async def test_a_client_that_never_takes_its_answer(serve):
    async with serve(FakeModels(echo(ECHO)), grpc=True, write_timeout_s=0.3) as served:
        async with peer(served) as made:
            made.send(
                f.settings({f.SETTINGS_INITIAL_WINDOW: 0}), call(made, 1, message(request(1000)))
            )
            async with asyncio.timeout(10):
                while await made.reader.read(65536):
                    pass  # until the server has had enough
        await still_answers(served)


async def test_a_client_that_never_ends_its_request(serve):
    async with serve(FakeModels(echo(ECHO)), grpc=True, body_timeout_s=0.3) as served:
        async with peer(served) as made:
            made.send(made.headers(1), f.frame(f.DATA, 0, 1, message(request())[:10]))
            async with asyncio.timeout(10):
                while await made.reader.read(65536):
                    pass
        await still_answers(served)


async def test_a_large_answer_waits_for_the_window_and_comes_whole(served):
    async with peer(served) as made:
        rows = 50_000
        made.send(f.settings({f.SETTINGS_INITIAL_WINDOW: 1000}))
        payload = message(request(rows))
        made.send(made.headers(1), f.frame(f.DATA, f.END_STREAM, 1, payload))
        got = b""
        async with asyncio.timeout(20):
            while True:
                found = await made.frame()
                if found.kind == f.DATA:
                    got += found.payload
                    made.send(
                        f.window_update(0, len(found.payload)),
                        f.window_update(1, len(found.payload)),
                    )
                elif found.kind == f.HEADERS and found.flags & f.END_STREAM:
                    break
        answer = triton.ModelInferResponse.FromString(got[5:])
        assert len(answer.raw_output_contents[0]) == 4 * rows


CALL_AS = """
import os, socket, sys
os.setgroups([]); os.setgid(65534); os.setuid(65534)
client = socket.socket(socket.AF_UNIX)
client.settimeout(10)
client.connect({path!r})
client.sendall({data!r})
said = b""
while b"forbidden" not in said:
    said += client.recv(65536)
"""


async def test_a_viewer_may_look_and_not_infer(open_directory):
    """The kernel says who calls, here as over HTTP."""
    async with serving(open_directory, grpc=True, default_role="viewer", mode="0666") as served:
        block = hpack.Encoder().encode([
            (":method", "POST"), (":scheme", "http"), (":path", INFER), ("te", "trailers"),
            ("content-type", "application/grpc"),
        ])  # fmt: skip
        data = f.PREFACE + f.settings({}) + f.frame(f.HEADERS, f.END_HEADERS, 1, block)
        path = str(served.path.with_name(f"{served.path.name}.grpc"))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", CALL_AS.format(path=path, data=data)
        )
        assert await asyncio.wait_for(process.wait(), 20) == 0


def test_the_bound_of_headers_is_the_one_that_is_announced():
    assert MAX_LIST == 16 * 1024
