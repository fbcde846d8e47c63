"""One test for each thing that a hostile or broken client does on a real socket.

After each, the server must still answer others, hold no body's memory, and have answered no 500.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes.engine import FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve, Served
from tests.support.wire import request, until

INFER = "/v2/models/echo/infer"
HEAD = f"POST {INFER} HTTP/1.1\r\nHost: h\r\n".encode()


@contextlib.asynccontextmanager
async def unharmed(serve: Serve, **changes: Any) -> AsyncIterator[Served]:
    """A served API that must be in good health after what is done to it."""
    async with serve(**changes) as api:
        yield api
        assert (await api.call("GET", "/healthz")).status == 200
        assert api.server._http.limits.bodies.held == 0
        requests = api.metrics.counter("edge_agent_api_requests_total", "", ("route", "status"))
        assert [labels for labels in requests.series() if labels[1] == "500"] == []


SMUGGLING = {
    "both lengths": HEAD + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "lengths twice": HEAD + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n12345",
    "the same length twice": HEAD + b"Content-Length: 4\r\nContent-Length: 4\r\n\r\n1234",
    "a list of lengths": HEAD + b"Content-Length: 4, 4\r\n\r\n1234",
    "a signed length": HEAD + b"Content-Length: +4\r\n\r\n1234",
    "a negative length": HEAD + b"Content-Length: -4\r\n\r\n1234",
    "a hexadecimal length": HEAD + b"Content-Length: 0x4\r\n\r\n1234",
    "a length beyond 64 bits": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "chunked but not last": HEAD + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunked spelt with a tab": HEAD + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "transfer encoding twice": HEAD
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "a chunk size that is none": HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "a chunk size beyond 64 bits": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n\r\n",
    "a chunk longer than it says": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n",
    "a chunk ended by a bare LF": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nab\n0\n\n",
    "chunked in HTTP/1.0": HEAD.replace(b"1.1", b"1.0")
    + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "an encoding that is none": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "identity beside a length": HEAD
    + b"Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}",
    "a folded length": HEAD + b"Content-Length:\r\n 2\r\n\r\n{}",
    "an empty length": HEAD + b"Content-Length: \r\n\r\n",
    "a chunk size with a sign": HEAD + b"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n",
    "a chunk size with a prefix": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "space after a chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2 \r\n{}\r\n0\r\n\r\n",
    "a chunk extension ended by a bare LF": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n2;a\n{}\r\n0\r\n\r\n",
    "a chunk extension ended by a bare CR": HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n2;a\r{}\r\n0\r\n\r\n",
    "a line end inside a quoted chunk extension": HEAD
    + b'Transfer-Encoding: chunked\r\n\r\n2;a="\r\n{}\r\n0\r\n\r\n',
    "HTTP/0.9": b"GET /healthz\r\n\r\n",
    "space before the colon": b"GET /healthz HTTP/1.1\r\nHost : h\r\n\r\n",
    "a folded header": b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n",
    "a bare CR in a header": b"GET /healthz HTTP/1.1\r\nHost: h\rX: y\r\n\r\n",
    "a zero byte in a header": b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: a\x00b\r\n\r\n",
    "lines ended by a bare LF": b"GET /healthz HTTP/1.1\nHost: h\n\n",
    "host twice": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "a method that is none": b"GE T /healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    "a version that is none": b"GET /healthz HTTP/3.9\r\nHost: h\r\n\r\n",
    "a target that is no path": b"GET healthz HTTP/1.1\r\nHost: h\r\n\r\n",
    "a tunnel": b"CONNECT example.org:443 HTTP/1.1\r\nHost: h\r\n\r\n",
    "a switch of protocols with a body": HEAD
    + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 4\r\n\r\n1234",
    "TLS": bytes.fromhex("16030100c8010000c40303"),
    "random bytes": bytes(range(256)) * 4,
    "a second request after a broken one": b"BROKEN\r\n\r\n" + request("GET", "/healthz"),
}


@pytest.mark.parametrize("data", SMUGGLING.values(), ids=SMUGGLING)
async def test_malformed_requests_are_400_and_end_the_connection(serve: Serve, data: bytes) -> None:
    """Nothing that two readers could understand differently is understood at all."""
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(data)
        wire.writer.write_eof()
        reply = await wire.reply()
        assert reply.status == 400
        assert reply.json()["code"] == "request.payload"
        assert await wire.ended()


async def test_what_follows_the_body_is_not_taken_for_part_of_it(serve: Serve) -> None:
    """A body that looks like a request is a body; the request after it is answered as itself."""
    inner = request("GET", "/metrics")
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(request("POST", INFER, inner) + request("GET", "/healthz"))
        assert (await wire.reply()).status == 400
        assert (await wire.reply()).json() == {"status": "ok"}


async def test_chunk_extensions_and_trailers_change_nothing(serve: Serve) -> None:
    """They are read and forgotten: the body is what the chunks say, and the next request its own."""
    body = b"2;name=value\r\n{}\r\n0;last\r\nX-Trailer: GET /metrics HTTP/1.1\r\n\r\n"
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + body)
        await wire.send(request("GET", "/healthz"))
        reply = await wire.reply()
        assert (reply.status, "inputs" in reply.json()["message"]) == (400, True)
        assert (await wire.reply()).json() == {"status": "ok"}


async def test_a_declared_length_of_10_gb_is_refused_before_the_body(serve: Serve) -> None:
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Content-Length: 10000000000\r\n\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (413, "limit.size")
        assert await wire.ended()


async def test_a_client_that_sends_100_mb_anyway_can_read_why_not(serve: Serve) -> None:
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Content-Length: 100000000\r\n\r\n")
        block = b"x" * 1_000_000
        with contextlib.suppress(ConnectionError):
            for _ in range(100):
                await wire.send(block)
        assert (await wire.reply()).status == 413


async def test_chunks_without_end_are_cut_at_the_bound(serve: Serve) -> None:
    async with unharmed(serve, max_body_mib=1) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        chunk = b"%x\r\n" % 65536 + b"x" * 65536 + b"\r\n"
        with contextlib.suppress(ConnectionError):
            for _ in range(17):
                await wire.send(chunk)
        assert (await wire.reply()).status == 413


async def test_a_body_on_a_route_without_one_is_refused(serve: Serve) -> None:
    async with unharmed(serve) as api:
        assert (await api.call("GET", "/healthz", b"x")).status == 413


async def test_bodies_of_all_clients_together_are_bounded(serve: Serve) -> None:
    """Clients that each stay under the bound cannot fill the memory together."""
    async with unharmed(serve, max_body_mib=1, max_bodies_mib=1, body_timeout_s=0.2) as api:
        first, second = await api.connect(), await api.connect()
        for wire in (first, second):
            await wire.send(HEAD + b"Content-Length: 1048576\r\n\r\n" + b"x" * 900_000)
        reply = await second.reply()
        assert (reply.status, reply.headers["retry-after"]) == (429, "1")
        assert (await first.reply()).status == 408


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n", 431),
        (b"GET /healthz HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 100 + b"\r\n", 431),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    ],
    ids=["a long header", "many headers", "a long target"],
)
async def test_heads_are_bounded(serve: Serve, data: bytes, status: int) -> None:
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(data)
        assert (await wire.reply()).status == status
        assert await wire.ended()


@pytest.mark.parametrize(
    "start",
    [
        b"GET /healthz HTTP/1.1\r\nHost: h\r\nX: ",
        b"GET /healthz HTTP/1.1\r\nHost: h\r\nX",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\nTrailer: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;extension=",
    ],
    ids=["header value", "header name", "trailer", "chunk extension"],
)
async def test_a_line_without_end_is_cut(serve: Serve, start: bytes) -> None:
    """The parser would gather such a line for ever."""
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(start)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                await wire.send(b"a" * 1000)
        assert (await wire.reply()).status == 431


async def test_a_client_that_stops_in_the_headers_is_let_go(serve: Serve) -> None:
    async with unharmed(serve, header_timeout_s=0.1) as api:
        wire = await api.connect()
        await wire.send(b"GET /healthz HTTP/1.1\r\n")
        reply = await wire.reply()
        assert (reply.status, reply.json()["code"]) == (408, "limit.time")
        assert await wire.ended()


async def test_a_client_that_drips_headers_is_let_go(serve: Serve) -> None:
    """Each byte comes in time, the request does not."""
    async with unharmed(serve, header_timeout_s=0.2) as api:
        wire = await api.connect()
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /healthz HTTP/1.1\r\n" + b"X: a\r\n" * 20:
                await wire.send(bytes([byte]))
                await asyncio.sleep(0.01)
        assert (await wire.reply()).status == 408


async def test_a_client_that_stops_in_the_body_is_let_go(serve: Serve) -> None:
    async with unharmed(serve, body_timeout_s=0.1) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Content-Length: 100\r\n\r\nabc")
        assert (await wire.reply()).status == 408
        assert await wire.ended()


async def test_a_client_that_says_nothing_is_let_go(serve: Serve) -> None:
    async with unharmed(serve, idle_timeout_s=0.1) as api:
        wire = await api.connect()
        assert await wire.ended()


async def test_a_client_that_goes_in_the_middle_of_a_body_leaves_nothing(serve: Serve) -> None:
    async with unharmed(serve) as api:
        wire = await api.connect()
        await wire.send(HEAD + b"Content-Length: 1000000\r\n\r\n" + b"x" * 500_000)
        wire.writer.transport.abort()
        await until(lambda: not api.server._http.connections)


async def test_a_client_that_never_reads_is_let_go_and_slows_nobody(serve: Serve) -> None:
    """Answers wait in a bounded buffer; while it is full, no further request is read."""
    async with unharmed(serve, write_timeout_s=0.2) as api:
        wire = await api.connect()
        wire.writer.transport.pause_reading()
        writing = asyncio.ensure_future(send_for_ever(wire))
        while api.server._http.connections:
            assert (await asyncio.wait_for(api.call("GET", "/healthz"), 1)).status == 200
            api.wires.pop().close()
            await asyncio.sleep(0.01)
        writing.cancel()
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await writing


async def send_for_ever(wire: Any) -> None:
    while True:
        await wire.send(request("GET", "/") * 10)
        await asyncio.sleep(0)


async def test_more_connections_than_allowed_are_told_and_closed(serve: Serve) -> None:
    async with unharmed(serve, max_connections=5) as api:
        wires = [await api.connect() for _ in range(5)]
        over = await api.connect()
        reply = await over.reply()
        assert (reply.status, reply.json()["code"]) == (429, "limit.rate")
        assert await over.ended()
        assert (await wires[0].call("GET", "/healthz")).status == 200
        wires[1].close()
        await asyncio.sleep(0.01)


async def test_requests_beyond_the_bound_are_429_and_the_others_are_answered(
    serve: Serve,
) -> None:
    slow = echo(ECHO, typical_s=1.0)
    session = slow.session
    assert isinstance(session, FakeSession)
    session.gate.clear()
    data = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}'
    async with unharmed(serve, models=FakeModels(slow), parts={"max_running": 3}) as api:
        running = [await api.connect() for _ in range(3)]
        for wire in running:
            await wire.send(request("POST", INFER, data))
        await until(lambda: api.service.admission.running == 3)
        refused = await api.call("POST", INFER, data)
        assert (refused.status, refused.headers["retry-after"]) == (429, "1")
        session.gate.set()
        assert [(await wire.reply()).status for wire in running] == [200, 200, 200]


async def test_a_runtime_that_fails_is_503_with_its_code(serve: Serve) -> None:
    broken = echo(ECHO)
    assert isinstance(broken.session, FakeSession)
    broken.session.failure = RuntimeError("a secret path")
    data = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}'
    async with unharmed(serve, models=FakeModels(broken)) as api:
        reply = await api.call("POST", INFER, data)
        assert (reply.status, reply.json()["code"]) == (503, "engine.failed")


async def test_a_mistake_of_ours_is_a_500_without_details(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, the connection goes on, and the client learns nothing of it."""
    wrong = echo(ECHO)
    wrong.run = lambda _: {}  # type: ignore[method-assign,assignment] # a model without its output
    data = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}'
    async with serve(FakeModels(wrong)) as api:
        wire = await api.connect()
        reply = await wire.call("POST", INFER, data)
        assert (reply.status, reply.json()["code"]) == (500, "agent.error")
        assert "KeyError" not in reply.body.decode()
        assert (await wire.call("GET", "/healthz")).status == 200
        counted = api.metrics.counter("edge_agent_api_requests_total", "", ("route", "status"))
        assert counted.value("/v2/models/{model}/infer", "500") == 1
    assert "KeyError" in caplog.text
