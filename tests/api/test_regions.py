"""Shared memory: only the owner's, within its bounds, and harmless when it changes under our hands."""

import asyncio
import json
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.api.callers import Caller, Role
from agent.api.oip.shared import SharedRange
from agent.api.regions import MAX_REGIONS, MAX_TENSOR, MAX_USER_REGIONS, SHARED_MEMORY, Regions
from agent.errors import (
    AgentError,
    BadRequest,
    BadTensor,
    Forbidden,
    NotFound,
    TooLarge,
    TooMany,
)
from agent.types import TensorSpec
from tests.api.test_routes import infer, tensor
from tests.fakes.engine import FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve, Served
from tests.support.wire import Reply, until

ME = Caller(os.getuid(), os.getgid(), os.getpid(), Role.APP)
OTHER = Caller(60001, 60001, 1, Role.APP)
BY_TOKEN = Caller(-1, -1, 0, Role.APP)


@pytest.fixture
def regions(tmp_path: Path) -> Iterator[Regions]:
    regions = Regions(tmp_path)
    yield regions
    regions.close()


@pytest.fixture
def key(tmp_path: Path) -> str:
    (tmp_path / "frame").write_bytes(bytes(range(100)))
    return "/frame"


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def place(offset: int, size: int, region: str = "r") -> SharedRange:
    return SharedRange(region, offset, size)


def test_what_was_registered_is_read_and_written(
    regions: Regions, key: str, tmp_path: Path
) -> None:
    regions.register(ME, "r", key, 10, 50)
    assert regions.read(ME, place(5, 3)) == bytes([15, 16, 17])
    regions.write(ME, place(5, 3), b"abc")
    assert (tmp_path / "frame").read_bytes()[14:19] == b"\x0eabc\x12"


def test_each_user_has_names_of_its_own(regions: Regions, key: str) -> None:
    """Another user can neither use, see nor forget a region."""
    regions.register(ME, "r", key, 0, 100)
    with pytest.raises(NotFound):
        regions.read(OTHER, place(0, 1))
    with pytest.raises(NotFound):
        regions.status(OTHER, "r")
    assert regions.status(OTHER, None) == []
    regions.unregister(OTHER, None)
    assert [r["name"] for r in regions.status(ME, None)] == ["r"]


def test_another_users_object_is_refused(regions: Regions, key: str) -> None:
    with pytest.raises(Forbidden, match="not the caller's own"):
        regions.register(OTHER, "r", key, 0, 100)


def test_a_caller_whom_only_a_token_names_is_refused(regions: Regions, key: str) -> None:
    with pytest.raises(Forbidden, match="Unix socket"):
        regions.register(BY_TOKEN, "r", key, 0, 100)


@pytest.mark.parametrize("key", ["", "/", "..", "/..", "a/b", "/../etc/passwd", "a\0b", "x" * 300])
def test_a_key_that_leads_elsewhere_is_refused(regions: Regions, key: str) -> None:
    with pytest.raises(BadRequest):
        regions.register(ME, "r", key, 0, 1)


def test_a_link_a_pipe_and_a_directory_are_refused(regions: Regions, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "directory").mkdir()
    for key in ("link", "pipe", "directory"):
        with pytest.raises(Forbidden):
            regions.register(ME, "r", key, 0, 1)


def test_an_object_that_is_absent_or_too_small_is_refused(regions: Regions, key: str) -> None:
    with pytest.raises(NotFound):
        regions.register(ME, "r", "absent", 0, 1)
    with pytest.raises(BadRequest, match="has 100 bytes, not 101"):
        regions.register(ME, "r", key, 1, 100)


def test_a_name_is_taken_once(regions: Regions, key: str) -> None:
    regions.register(ME, "r", key, 0, 100)
    with pytest.raises(BadRequest, match="already"):
        regions.register(ME, "r", key, 0, 100)
    regions.unregister(ME, "r")
    regions.unregister(ME, "r")
    regions.register(ME, "r", key, 0, 100)


def test_bytes_outside_the_region_are_refused(regions: Regions, key: str) -> None:
    regions.register(ME, "r", key, 10, 20)
    for where in (place(0, 21), place(20, 1), place(1 << 47, 1)):
        with pytest.raises(BadTensor):
            regions.read(ME, where)
        with pytest.raises(BadTensor):
            regions.write(ME, where, b"x")


def test_an_object_that_shrinks_is_an_error_and_not_the_end(
    regions: Regions, key: str, tmp_path: Path
) -> None:
    """A mapping would end the process with SIGBUS."""
    regions.register(ME, "r", key, 0, 100)
    os.truncate(tmp_path / "frame", 10)
    with pytest.raises(BadTensor, match="smaller"):
        regions.read(ME, place(0, 100))
    with pytest.raises(BadTensor, match="smaller"):
        regions.write(ME, place(50, 10), b"x" * 10)
    assert (tmp_path / "frame").stat().st_size == 10


def test_an_object_that_vanishes_is_still_ours(regions: Regions, key: str, tmp_path: Path) -> None:
    regions.register(ME, "r", key, 0, 100)
    (tmp_path / "frame").unlink()
    assert regions.read(ME, place(0, 2)) == b"\0\x01"


def test_a_sparse_giant_is_not_read(regions: Regions, tmp_path: Path) -> None:
    """Ten gigabytes that take no room on its side must take none on ours."""
    (tmp_path / "giant").touch()
    os.truncate(tmp_path / "giant", 10 << 30)
    regions.register(ME, "r", "giant", 0, 10 << 30)
    with pytest.raises(TooLarge):
        regions.read(ME, place(0, MAX_TENSOR + 1))


def test_regions_are_bounded_and_give_their_descriptors_back(regions: Regions, key: str) -> None:
    before = descriptors()
    for number in range(MAX_USER_REGIONS):
        regions.register(ME, f"r{number}", key, 0, 1)
    with pytest.raises(TooMany):
        regions.register(ME, "one more", key, 0, 1)
    assert MAX_USER_REGIONS < MAX_REGIONS
    regions.unregister(ME, None)
    for bad in ("absent", key):
        with pytest.raises(AgentError):
            regions.register(ME, "r", bad, 0, 1000)
    assert descriptors() == before


# Through the socket


@dataclass(frozen=True)
class Frame:
    """A real shared memory object, mapped as a client maps it."""

    name: str
    memory: mmap.mmap


@pytest.fixture
def frame() -> Iterator[Frame]:
    path = SHARED_MEMORY / f"edge-agent-test-{os.getpid()}"
    path.write_bytes(bytes(64))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 64) as memory:
        yield Frame(path.name, memory)
    path.unlink()


async def register(api: Served, frame: Frame) -> Reply:
    body = json.dumps({"key": f"/{frame.name}", "offset": 0, "byte_size": 64}).encode()
    return await api.call("POST", "/v2/systemsharedmemory/region/frame/register", body)


def shared(offset: int, size: int) -> dict[str, Any]:
    return {
        "shared_memory_region": "frame",
        "shared_memory_offset": offset,
        "shared_memory_byte_size": size,
    }


FIELDS = {
    "inputs": [tensor("INT8", [1, 4], parameters=shared(0, 4))],
    "outputs": [{"name": "x", "parameters": shared(32, 8)}],
}


@pytest.mark.parametrize("typical_s", [0.0, 1.0], ids=["inline", "in a thread"])
async def test_tensors_go_both_ways_through_shared_memory(
    serve: Serve, frame: Frame, typical_s: float
) -> None:
    async with serve(FakeModels(echo(ECHO, typical_s=typical_s))) as api:
        assert (await register(api, frame)).status == 200
        for number in range(3):
            frame.memory[:4] = bytes([number, 2, 3, 4])
            reply = await infer(api, FIELDS)
            assert reply.json()["outputs"] == [tensor("INT8", [1, 4], parameters=shared(32, 4))]
            assert frame.memory[32:40] == bytes([number, 2, 3, 4, 0, 0, 0, 0])


async def test_regions_are_shown_and_forgotten(serve: Serve, frame: Frame) -> None:
    async with serve() as api:
        await register(api, frame)
        expected = [{"name": "frame", "key": f"/{frame.name}", "offset": 0, "byte_size": 64}]
        for path in ("/v2/systemsharedmemory/status", "/v2/systemsharedmemory/region/frame/status"):
            assert (await api.call("GET", path)).json() == expected
        assert (await api.call("POST", "/v2/systemsharedmemory/unregister")).status == 200
        assert (await api.call("GET", "/v2/systemsharedmemory/status")).json() == []
        assert (await infer(api, FIELDS)).status == 404


async def test_wrong_places_are_400_with_the_tensors_name(serve: Serve, frame: Frame) -> None:
    bad_inputs = {
        "another size": tensor("INT8", [1, 4], parameters=shared(0, 5)),
        "no size": tensor("INT8", [1, 4], parameters={"shared_memory_region": "frame"}),
        "a size that is none": tensor("INT8", [1, 4], parameters=shared(0, -4)),
        "a name that is none": tensor("INT8", [1, 4], parameters={"shared_memory_region": 1}),
        "data as well": tensor("INT8", [1, 4], parameters=shared(0, 4), data=[1, 2, 3, 4]),
    }
    async with serve() as api:
        await register(api, frame)
        for fields in bad_inputs.values():
            reply = await infer(api, {"inputs": [fields]})
            assert (reply.status, reply.json()["where"]) == (400, "x")
        small = {**FIELDS, "outputs": [{"name": "x", "parameters": shared(0, 3)}]}
        assert (await infer(api, small)).json()["where"] == "x"


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"key": "a", "byte_size": 0}', b'{"key": 1, "byte_size": 1}']
)
async def test_registrations_that_say_too_little_are_400(serve: Serve, body: bytes) -> None:
    async with serve() as api:
        reply = await api.call("POST", "/v2/systemsharedmemory/region/frame/register", body)
        assert reply.status == 400


async def test_a_region_forgotten_during_a_run_is_not_written_to(
    serve: Serve, frame: Frame
) -> None:
    """Its descriptor is closed by then, and its number may belong to another file."""
    slow = echo(ECHO, typical_s=1.0)
    assert isinstance(slow.session, FakeSession)
    slow.session.gate.clear()
    async with serve(FakeModels(slow)) as api:
        await register(api, frame)
        pending = asyncio.ensure_future(infer(api, FIELDS))
        await until(lambda: slow.session.runs == 1)
        await api.call("POST", "/v2/systemsharedmemory/unregister")
        slow.session.gate.set()
        assert (await pending).status == 404
    assert frame.memory[:] == bytes(64)


async def test_floats_from_shared_memory_are_checked_like_others(
    serve: Serve, frame: Frame
) -> None:
    frame.memory[:16] = np.array([np.nan] * 4, np.float32).tobytes()
    fields = {"inputs": [tensor("FP32", [1, 4], parameters=shared(0, 16))]}
    async with serve(FakeModels(echo(TensorSpec("x", "FP32", (-1, 4))))) as api:
        await register(api, frame)
        assert (await infer(api, fields)).json()["where"] == "x"
