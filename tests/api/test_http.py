"""HTTP/1.1 on real sockets: what a client of the standard may do works, on both event loops."""

import asyncio
import json

import pytest

from tests.support.served import Serve
from tests.support.wire import request

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()
INFER = "/v2/models/echo/infer"


async def test_many_requests_share_a_connection(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        for _ in range(3):
            assert (await wire.call("GET", "/healthz")).json() == {"status": "ok"}


async def test_pipelined_requests_are_answered_in_order(serve: Serve) -> None:
    """The first takes longest, and still comes first."""
    async with serve() as api:
        wire = await api.connect()
        paths = ["/api/status", "/healthz", "/v2", "/nowhere", "/v2/health/live"]
        await wire.send(b"".join(request("GET", path) for path in paths))
        replies = [await wire.reply() for _ in paths]
        assert "uptime_s" in replies[0].json()
        assert [reply.status for reply in replies] == [200, 200, 200, 404, 200]
        assert replies[2].json()["name"] == "edge-agent"


async def test_pipelining_without_end_is_cut_after_what_was_taken(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        await wire.send(request("GET", "/healthz") * 200)
        replies = [await wire.reply()]
        while "connection" not in replies[-1].headers:
            replies.append(await wire.reply())
        assert 1 < len(replies) < 200
        assert {reply.status for reply in replies} == {200}
        assert await wire.ended()


async def test_a_request_may_come_byte_by_byte(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        for byte in request("POST", INFER, BODY):
            await wire.send(bytes([byte]))
            await asyncio.sleep(0)
        assert (await wire.reply()).json()["outputs"][0]["data"] == [1, 2, 3, 4]


async def test_chunked_bodies_are_put_together(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        await wire.send(
            f"POST {INFER} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
            + b"10;ext=1\r\n" + BODY[:16] + b"\r\n"
            + b"%x\r\n" % len(BODY[16:]) + BODY[16:] + b"\r\n0\r\nTrailer: x\r\n\r\n"
        )  # fmt: skip
        assert (await wire.reply()).status == 200
        assert (await wire.call("GET", "/healthz")).status == 200


async def test_expect_100_continue_is_answered_before_the_body(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        head, _, body = request("POST", INFER, BODY, Expect="100-continue").partition(b"\r\n\r\n")
        await wire.send(head + b"\r\n\r\n")
        assert (await wire.reply(with_body=False)).status == 100
        await wire.send(body)
        assert (await wire.reply()).status == 200


async def test_expect_is_refused_at_once_when_the_body_would_be_too_large(serve: Serve) -> None:
    async with serve(max_body_mib=1) as api:
        wire = await api.connect()
        await wire.send(
            f"POST {INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        assert (await wire.reply()).status == 413
        assert await wire.ended()


async def test_another_expectation_is_417(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("POST", INFER, BODY, Expect="tea")).status == 417


async def test_head_has_the_headers_of_get_and_no_body(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        head = await wire.call("HEAD", "/v2")
        get = await wire.call("GET", "/v2")
        assert head.headers == get.headers
        assert (head.status, head.body) == (200, b"")


async def test_http_1_0_and_connection_close_end_the_connection(serve: Serve) -> None:
    async with serve() as api:
        for data in (
            b"GET /healthz HTTP/1.0\r\n\r\n",
            request("GET", "/healthz", Connection="close"),
        ):
            wire = await api.connect()
            await wire.send(data)
            reply = await wire.reply()
            assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert await wire.ended()


async def test_a_client_that_has_said_all_still_gets_its_answer(serve: Serve) -> None:
    """Half-closed connections, as `nc -N` makes them."""
    async with serve() as api:
        wire = await api.connect()
        await wire.send(request("GET", "/api/status"))
        wire.writer.write_eof()
        assert (await wire.reply()).status == 200
        assert await wire.ended()


async def test_an_offer_to_upgrade_is_ignored_and_the_connection_ends(serve: Serve) -> None:
    """As curl --http2 sends it."""
    async with serve() as api:
        wire = await api.connect()
        reply = await wire.call("GET", "/healthz", Connection="Upgrade", Upgrade="h2c")
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert await wire.ended()


async def test_a_wrong_method_is_405_and_says_which_are_right(serve: Serve) -> None:
    async with serve() as api:
        reply = await api.call("DELETE", "/healthz")
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_an_unknown_path_is_404_and_keeps_the_connection(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        reply = await wire.call("POST", "/nowhere", b"x" * 1000)
        assert (reply.status, reply.json()["code"]) == (404, "request.not_found")
        assert (await wire.call("GET", "/healthz")).status == 200


async def test_paths_are_decoded(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("GET", "/v2/models/%65cho?x=1")).json()["name"] == "echo"


@pytest.mark.parametrize("size", [0, 1, 70_000, 300_000, 3_000_000])
async def test_bodies_of_any_size_come_back_whole(serve: Serve, size: int) -> None:
    """Through every path of sending: in one piece, in parts, and with the writer's brake on."""
    shape = [size, 4]
    head = json.dumps({
        "inputs": [{"name": "x", "datatype": "INT8", "shape": shape,
                    "parameters": {"binary_data_size": 4 * size}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    data = bytes(range(256)) * (4 * size // 256 + 1)
    async with serve() as api:
        headers = {"Inference_Header_Content_Length": str(len(head))}
        reply = await api.call("POST", INFER, head + data[: 4 * size], **headers)
        split = int(reply.headers["inference-header-content-length"])
        assert json.loads(reply.body[:split])["outputs"][0]["shape"] == shape
        assert reply.body[split:] == data[: 4 * size]
        assert api.server._http.limits.bodies.held == 0


async def test_large_bodies_follow_one_another_on_a_connection(serve: Serve) -> None:
    """Progress is judged by each request alone, however much the one before it had."""
    async with serve() as api:
        wire = await api.connect()
        for size in (3_000_000, 300_000, 3_000_000):
            text = json.dumps({"inputs": [{"name": "x", "datatype": "INT8", "shape": [size // 4, 4],
                               "parameters": {"binary_data_size": size}}],
                               "outputs": [{"name": "x", "parameters": {"binary_data": True}}]}).encode()  # fmt: skip
            headers = {"Inference_Header_Content_Length": str(len(text))}
            assert (await wire.call("POST", INFER, text + bytes(size), **headers)).status == 200


async def test_a_large_answer_is_whole_before_the_connection_ends(serve: Serve) -> None:
    """Also for a reader that is slow to begin."""
    text = json.dumps({
        "inputs": [{"name": "x", "datatype": "INT8", "shape": [1_000_000, 4],
                    "parameters": {"binary_data_size": 4_000_000}}],
        "outputs": [{"name": "x", "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    headers = {"Inference_Header_Content_Length": str(len(text)), "Connection": "close"}
    async with serve() as api:
        wire = await api.connect()
        await wire.send(request("POST", INFER, text + bytes(4_000_000), **headers))
        await asyncio.sleep(0.1)
        reply = await wire.reply()
        assert (reply.status, len(reply.body) > 4_000_000) == (200, True)
        assert await wire.ended()


async def test_a_head_cut_after_many_requests_is_not_taken_for_a_long_one(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        whole = request("GET", "/healthz", X="a" * 2000)
        await wire.send(whole * 12 + whole[:30])
        for _ in range(12):
            assert (await wire.reply()).status == 200
        await wire.send(whole[30:])
        assert (await wire.reply()).status == 200


async def test_a_repeated_head_is_the_same_request_with_another_body(serve: Serve) -> None:
    """The server remembers a client's last head; each answer must still be to its own body."""
    async with serve() as api:
        wire = await api.connect()
        for number in range(10, 20):
            body = BODY.replace(b"[1, 2, 3, 4]", b"[%d, 2, 3, 4]" % number)
            reply = await wire.call("POST", INFER, body)
            assert reply.json()["outputs"][0]["data"] == [number, 2, 3, 4]


@pytest.mark.parametrize(
    "second",
    [
        request("POST", INFER, BODY.replace(b"1,", b"12345,")),
        request("POST", INFER.replace("echo", "ohce"), BODY),
        request("GET", "/healthz"),
        request("POST", INFER, BODY) * 2,
        b"\r\n" + request("POST", INFER, BODY),
    ],
    ids=["another length", "another path", "no body", "two at once", "an empty line before it"],
)
async def test_a_head_that_differs_by_anything_is_read_anew(serve: Serve, second: bytes) -> None:
    """What a connection that has a head in memory answers is what a fresh one answers."""
    async with serve() as api:
        fresh, known = await api.connect(), await api.connect()
        for _ in range(2):
            await known.call("POST", INFER, BODY)
        await fresh.send(second)
        await known.send(second)
        assert await fresh.reply() == await known.reply()
        assert (await known.call("POST", INFER, BODY)).status == 200


async def test_a_head_in_memory_is_not_used_inside_a_body(serve: Serve) -> None:
    """A body that holds a request just like the last one stays a body."""
    async with serve() as api:
        wire = await api.connect()
        first = request("POST", INFER, BODY)
        await wire.call("POST", INFER, BODY)
        await wire.send(
            f"POST {INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(first)}\r\n\r\n".encode()
        )
        await asyncio.sleep(0.01)
        await wire.send(first)
        assert (await wire.reply()).status == 400
        assert (await wire.call("GET", "/healthz")).status == 200
