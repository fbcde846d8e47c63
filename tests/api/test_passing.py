"""Anonymous shared memory by a passed descriptor: no names to guess, and nothing left behind."""

import asyncio
import fcntl
import json
import mmap
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agent.api.passing import MAX_CONNECTIONS, MAX_PACKET
from tests.api.test_regions import FIELDS, descriptors, shared
from tests.api.test_routes import infer, tensor
from tests.support.served import Serve, Served
from tests.support.wire import until

SIZE = 64


@pytest.fixture
def memory() -> Iterator[int]:
    """A memfd that cannot shrink."""
    descriptor = os.memfd_create("frame", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.truncate(descriptor, SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    yield descriptor
    os.close(descriptor)


class Passer:
    """A client of the socket that takes descriptors."""

    def __init__(self, api: Served) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(5)
        self.socket.connect(str(api.server.descriptors))

    async def send(self, data: bytes, *passed: int) -> Any:
        """One packet and its answer."""
        socket.send_fds(self.socket, [data], passed)
        return json.loads(await asyncio.to_thread(self.socket.recv, 65536))

    async def offer(self, passed: int, size: int = SIZE, region: str = "frame") -> Any:
        """Register a region."""
        return await self.send(json.dumps({"region": region, "byte_size": size}).encode(), passed)

    def close(self) -> None:
        self.socket.close()


async def test_a_passed_memory_is_used_where_it_is(serve: Serve, memory: int) -> None:
    async with serve() as api:
        with closing(Passer(api)) as passer, mmap.mmap(memory, SIZE) as mapped:
            assert await passer.offer(memory) == {}
            for number in range(3):
                mapped[:4] = bytes([number, 2, 3, 4])
                reply = await infer(api, FIELDS)
                assert reply.json()["outputs"] == [tensor("INT8", [1, 4], parameters=shared(32, 4))]
                assert mapped[32:36] == bytes([number, 2, 3, 4])


async def test_the_regions_go_with_the_connection(serve: Serve, memory: int) -> None:
    """A client that dies leaves no memory and no descriptor with the daemon."""
    async with serve() as api:
        before = descriptors()
        passer = Passer(api)
        await passer.offer(memory)
        passer.close()
        await until(lambda: descriptors() == before)
        assert (await infer(api, FIELDS)).status == 404


async def test_memory_that_can_shrink_is_copied(serve: Serve) -> None:
    descriptor = os.memfd_create("frame")
    os.truncate(descriptor, SIZE)
    async with serve() as api:
        with closing(Passer(api)) as passer:
            assert await passer.offer(descriptor) == {}
            assert (await infer(api, FIELDS)).status == 200
            os.truncate(descriptor, 2)
            assert (await infer(api, FIELDS)).status == 400
    os.close(descriptor)


async def test_memory_that_is_sealed_against_writing_takes_no_outputs(serve: Serve) -> None:
    descriptor = os.memfd_create("frame", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK)
    async with serve() as api:
        with closing(Passer(api)) as passer:
            await passer.offer(descriptor)
            assert (await infer(api, FIELDS)).status == 400
            assert (await infer(api, {"inputs": FIELDS["inputs"]})).status == 200
    os.close(descriptor)


async def test_what_is_not_anonymous_memory_is_refused(serve: Serve, tmp_path: Path) -> None:
    """A file on a slow disk, a pipe or a socket could keep the daemon waiting."""
    file = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    pipe = os.pipe()
    async with serve() as api:
        before = descriptors()
        with closing(Passer(api)) as passer:
            for descriptor in (file, *pipe, passer.socket.fileno()):
                answer = await passer.offer(descriptor)
                assert "memfd" in answer["message"]
        await until(lambda: descriptors() == before)
    for descriptor in (file, *pipe):
        os.close(descriptor)


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"\xff", b'{"region": "r"}', b'{"region": "r", "byte_size": 0}',
     b'{"region": "", "byte_size": 4}', b'{"region": "r", "byte_size": 65}', b"x" * 2 * MAX_PACKET],
)  # fmt: skip
async def test_packets_that_are_no_registration_are_told_so(
    serve: Serve, memory: int, data: bytes
) -> None:
    """The connection stays, and no descriptor does."""
    async with serve() as api:
        with closing(Passer(api)) as passer:
            await passer.offer(memory, region="kept")
            before = descriptors()
            assert "error" in await passer.send(data, memory)
            assert descriptors() == before
            assert await passer.offer(memory, region="other") == {}


async def test_too_few_and_too_many_descriptors_are_refused(serve: Serve, memory: int) -> None:
    data = b'{"region": "r", "byte_size": 4}'
    async with serve() as api:
        with closing(Passer(api)) as passer:
            await passer.offer(memory, region="kept")
            before = descriptors()
            for passed in ([], [memory] * 2, [memory] * 20):
                assert "one descriptor" in (await passer.send(data, *passed))["message"]
            assert descriptors() == before


async def test_connections_are_bounded(serve: Serve, memory: int) -> None:
    async with serve() as api:
        passers = [Passer(api) for _ in range(MAX_CONNECTIONS)]
        for index, passer in enumerate(passers[:3]):
            await passer.offer(memory, region=f"r{index}")
        over = Passer(api)
        assert await asyncio.to_thread(over.socket.recv, 10) == b""
        for passer in [*passers, over]:
            passer.close()


async def test_the_socket_goes_with_the_server(serve: Serve) -> None:
    async with serve() as api:
        path = api.server.descriptors
        assert path.is_socket()
        assert path.stat().st_mode & 0o777 == 0o660
        await api.server.close(1)
        assert not path.exists()
