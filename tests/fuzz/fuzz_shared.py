#!/usr/bin/env python3
"""Arbitrary bytes as registrations of shared memory and as requests that use it; see README.md."""

import fcntl
import os
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["agent"]):
    import msgspec

    from agent.api.callers import Caller, Role
    from agent.api.oip.request import prepare
    from agent.api.oip.response import encode
    from agent.api.oip.signature import Signature
    from agent.api.passing import _decode
    from agent.api.regions import Regions
    from agent.errors import AgentError
    from agent.types import TensorSpec

ME = Caller(os.getuid(), os.getgid(), os.getpid(), Role.APP)
KEY = f"fuzz-{os.getpid()}"
SIZE = 4096
SPECS = [TensorSpec("x", "UINT8", (-1, -1)), TensorSpec("s", "BYTES", (-1,))]
SIGNATURE = Signature.of("fuzzed", "1.0.0", SPECS, SPECS)


class RegionFields(msgspec.Struct):
    """What a registration over HTTP says, without the route's own bounds: all are tried."""

    key: str
    byte_size: int
    offset: int = 0


def memory() -> int:
    """Anonymous memory that cannot shrink."""
    descriptor = os.memfd_create("fuzz", os.MFD_ALLOW_SEALING)
    os.truncate(descriptor, SIZE)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return descriptor


def ask(data: bytes) -> None:
    """A registration, a packet and a request, cut from the bytes; the object shrinks in between."""
    first, _, rest = data.partition(b"\0")
    packet, _, request = rest.partition(b"\0")
    regions = Regions()
    regions.register(ME, "named", KEY, 0, SIZE)
    try:
        register(regions, first)
        adopt(regions, packet)
        if len(data) % 7 == 0:
            os.truncate(f"/dev/shm/{KEY}", len(data) % SIZE)
        infer(regions, request)
        assert all(0 <= entry["byte_size"] < 1 << 48 for entry in regions.status(ME, None))
    finally:
        regions.close()
        os.truncate(f"/dev/shm/{KEY}", SIZE)


def register(regions: Regions, text: bytes) -> None:
    try:
        asked = msgspec.json.decode(text, type=RegionFields)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if not (1 <= asked.byte_size < 1 << 48 and 0 <= asked.offset < 1 << 48):
        return  # the route's own bounds
    try:
        regions.register(ME, "other", asked.key, asked.offset, asked.byte_size)
    except AgentError:
        return


def adopt(regions: Regions, packet: bytes) -> None:
    try:
        passed = _decode(packet)
    except AgentError:
        return
    try:
        regions.adopt(ME, passed.region, memory(), passed.byte_size)
    except AgentError:
        return


def infer(regions: Regions, body: bytes) -> None:
    shared = regions.of(ME)
    try:
        prepared = prepare(body, len(body), SIGNATURE)
        tensors = prepared.tensors(body, shared)
        encode(tensors, prepared, SIGNATURE, shared)
    except AgentError:
        return


def seeds(directory: Path) -> None:
    """What is right, to begin from."""
    place = b'"parameters":{"shared_memory_region":"%b","shared_memory_byte_size":%d,"shared_memory_offset":8}'
    for number, (region, size) in enumerate([(b"named", 16), (b"other", 16), (b"sealed", 4000)]):
        tensor = b'{"name":"x","datatype":"UINT8","shape":[1,%d],%b}' % (
            size,
            place % (region, size),
        )
        text = b'{"name":"s","datatype":"BYTES","shape":[0],%b}' % (place % (region, 0))
        output = b'{"name":"x",%b}' % (place % (region, size))
        request = b'{"inputs":[%b,%b],"outputs":[%b]}' % (tensor, text, output)
        registration = b'{"key":"%b","byte_size":64,"offset":64}' % KEY.encode()
        packet = b'{"region":"sealed","byte_size":4096}'
        (directory / str(number)).write_bytes(b"\0".join((registration, packet, request)))


if __name__ == "__main__":
    import tempfile

    Path("/dev/shm", KEY).write_bytes(bytes(SIZE))
    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], ask)
        atheris.Fuzz()
