"""One test for each thing that a hostile or broken client says of its tensors, over a real socket.

Each is refused with a 4xx that names the tensor or the region; the connection and the others go on.
"""

import json
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.types import TensorSpec, Values
from tests.fakes.engine import FakeModel, FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve, Served, call_as, serving
from tests.support.wire import Reply, Wire, request, until

INFER = "/v2/models/echo/infer"
GOOD = {"name": "x", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}


async def ask(wire: Wire, tensor: dict[str, Any], data: bytes = b"", **more: Any) -> Reply:
    """One inference; `data` follows the JSON when there is any."""
    text = json.dumps({"inputs": [tensor], **more}).encode()
    headers = {"Inference_Header_Content_Length": str(len(text))} if data else {}
    return await wire.call("POST", INFER, text + data, **headers)


async def assert_refused(wire: Wire, reply: Reply, where: str = "x", status: int = 400) -> None:
    """A clear refusal, after which the same connection is served as before."""
    assert (reply.status, reply.json()["where"]) == (status, where)
    assert (await ask(wire, GOOD)).status == 200


async def test_a_product_of_dimensions_that_overflows(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        for shape in ([2**62, 4], [2**32, 2**32, 2**32], [2**63 - 1, 2**63 - 1], [2**200, 1]):
            reply = await ask(wire, {**GOOD, "shape": shape})
            assert reply.status == 400
            size = {"parameters": {"binary_data_size": 4}}
            tensor = {"name": "x", "datatype": "INT8", "shape": shape, **size}
            assert (await ask(wire, tensor, b"1234")).status == 400
        await assert_refused(wire, await ask(wire, {**GOOD, "shape": [2**62, 4]}))


async def test_a_wrong_element_type(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        for datatype in ("INT16", "FP64", "BYTES", "BOOL", "INT3", ""):
            await assert_refused(wire, await ask(wire, {**GOOD, "datatype": datatype}))


async def test_binary_data_that_ends_too_soon(serve: Serve) -> None:
    """Fewer bytes than the tensor has, fewer than the JSON says, and less JSON than the header says."""
    async with serve() as api:
        wire = await api.connect()
        tensor = {k: v for k, v in GOOD.items() if k != "data"}
        short = {**tensor, "parameters": {"binary_data_size": 3}}
        await assert_refused(wire, await ask(wire, short, b"123"))
        said = {**tensor, "parameters": {"binary_data_size": 4}}
        await assert_refused(wire, await ask(wire, said, b"123"), "body")
        headers = {"Inference_Header_Content_Length": "10000000000"}
        reply = await wire.call("POST", INFER, b"{}", **headers)
        await assert_refused(wire, reply, "Inference-Header-Content-Length")


@pytest.mark.parametrize(
    ("values", "refused"),
    [
        (None, {"nan"}),
        ("numbers", {"nan"}),
        ("finite", {"nan", "inf", "-inf"}),
        ("any", set()),
    ],
)
async def test_nan_and_infinities_where_the_manifest_forbids_them(
    serve: Serve, values: Values | None, refused: set[str]
) -> None:
    spec = TensorSpec("x", "FP32", (-1, 4), values=values)
    async with serve(FakeModels(echo(spec))) as api:
        wire = await api.connect()
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4]}
        for word in ("nan", "inf", "-inf"):
            data = np.array([1, 2, float(word), 4], np.float32).tobytes()
            reply = await ask(wire, {**tensor, "parameters": {"binary_data_size": 16}}, data)
            assert reply.status == (400 if word in refused else 200), word
            if word in refused:
                assert reply.json()["where"] == "x"
                assert "[0, 2]" in reply.json()["message"]


@pytest.mark.parametrize("word", ["nan", "inf"])
async def test_what_has_no_stored_integer_is_refused_for_a_quantized_input(
    serve: Serve, word: str
) -> None:
    spec = TensorSpec("x", "INT8", (-1, 4), quantization=ECHO.quantization, values="finite")
    async with serve(FakeModels(echo(spec))) as api:
        wire = await api.connect()
        data = np.array([1, 2, float(word), 4], np.float32).tobytes()
        size = {"parameters": {"binary_data_size": 16}}
        tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], **size}
        await assert_refused(wire, await ask(wire, tensor, data))


async def test_an_output_that_the_model_does_not_have(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        reply = await ask(wire, GOOD, outputs=[{"name": "secret"}])
        await assert_refused(wire, reply, "secret")


# Shared memory


@pytest.fixture
def key() -> Iterator[str]:
    """A shared memory object of this user, 8 bytes."""
    name = f"hostile-{os.getpid()}"
    path = Path("/dev/shm", name)
    path.write_bytes(bytes(8))
    path.chmod(0o666)
    yield name
    path.unlink(missing_ok=True)


async def register(api: Served, key: str, size: int = 8) -> Reply:
    body = json.dumps({"key": key, "byte_size": size}).encode()
    return await api.call("POST", "/v2/systemsharedmemory/region/r/register", body)


def shared(size: int, offset: int = 0) -> dict[str, Any]:
    place = {"shared_memory_region": "r", "shared_memory_offset": offset}
    parameters = {**place, "shared_memory_byte_size": size}
    return {"name": "x", "datatype": "INT8", "shape": [size // 4, 4], "parameters": parameters}


async def test_a_region_larger_than_its_object(serve: Serve, key: str) -> None:
    async with serve() as api:
        reply = await register(api, key, 9)
        assert (reply.status, "has 8 bytes" in reply.json()["message"]) == (400, True)


async def test_a_tensor_that_reaches_over_the_end_of_its_region(serve: Serve, key: str) -> None:
    async with serve() as api:
        assert (await register(api, key)).status == 200
        wire = await api.connect()
        for size, offset in ((12, 0), (8, 4), (4, 2**47)):
            await assert_refused(wire, await ask(wire, shared(size, offset)), "r")


async def test_a_region_that_shrinks_between_two_requests(serve: Serve, key: str) -> None:
    """Mapped memory would end the whole daemon here (SIGBUS)."""
    async with serve() as api:
        assert (await register(api, key)).status == 200
        wire = await api.connect()
        assert (await ask(wire, shared(8))).status == 200
        os.truncate(f"/dev/shm/{key}", 0)
        await assert_refused(wire, await ask(wire, shared(8)), "r")


async def test_a_region_whose_name_vanishes_is_still_the_same_memory(
    serve: Serve, key: str
) -> None:
    async with serve() as api:
        assert (await register(api, key)).status == 200
        os.unlink(f"/dev/shm/{key}")  # noqa: PTH108 (nothing to wait for)
        assert (await ask(await api.connect(), shared(8))).status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as somebody else")
async def test_a_region_of_another_user(open_directory: Path, key: str) -> None:
    """Neither its object, which anybody may open here, nor its name, once it is registered."""
    body = json.dumps({"key": key, "byte_size": 8}).encode()
    async with serving(open_directory, mode="0666") as api:
        path = "/v2/systemsharedmemory/region/r/register"
        assert (await call_as(60002, api.path, request("POST", path, body)))[9:12] == "403"
        assert (await register(api, key)).status == 200
        asked = json.dumps({"inputs": [shared(8)]}).encode()
        assert (await call_as(60002, api.path, request("POST", INFER, asked)))[9:12] == "404"


# Very many, and for ever


async def test_two_thousand_connections(serve: Serve) -> None:
    """So many as are allowed stay; the others are told; those inside are served as before."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 5000:
        pytest.skip("this machine does not allow so many open files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 5000), hard))
    async with serve() as api:
        first = await api.connect()
        assert (await first.call("GET", "/healthz")).status == 200
        wires = [await api.connect() for _ in range(1999)]
        told = [await wire.reply() for wire in wires[1023:]]
        assert {reply.status for reply in told} == {429}
        assert api.server._http.connections <= 1024
        assert (await ask(first, GOOD)).status == 200
        assert (await ask(wires[1000], GOOD)).status == 200


async def test_a_model_that_never_answers(serve: Serve) -> None:
    """Its caller is told at the deadline; another model and the daemon itself answer meanwhile."""
    endless = FakeModel(FakeSession([ECHO], [ECHO]), "endless", typical_s=1.0)
    assert isinstance(endless.session, FakeSession)
    endless.session.gate.clear()
    async with serve(FakeModels(endless, echo(ECHO)), request_deadline_s=0.3) as api:
        body = json.dumps({"inputs": [GOOD]}).encode()
        waiting = [await api.connect() for _ in range(3)]
        for wire in waiting:
            await wire.send(request("POST", "/v2/models/endless/infer", body))
        await until(lambda: api.service.admission.running == 3)
        assert (await ask(await api.connect(), GOOD)).status == 200
        assert {(await wire.reply()).status for wire in waiting} == {504}
        endless.session.gate.set()
        await until(lambda: api.service.admission.running == 0)
