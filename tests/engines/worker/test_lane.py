"""A lane believes nothing: what comes from the other side is checked as a stranger's would be."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.worker import memory
from agent.engines.worker.lane import Ended, Lane, Late, pair
from agent.engines.worker.packets import Packet, Shape, decode, offsets, place, unspill
from agent.errors import BadPayload

Ends = tuple[Lane, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A lane, and the bare socket at its other end."""
    mine, theirs = pair()
    lane = Lane(mine)
    yield lane, theirs
    lane.close()
    theirs.close()


def said(*fields: object) -> bytes:
    return msgspec.msgpack.encode(fields)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1",
        b"x" * 100,
        said("result", "", None, [["x", "FP32", [2], -8]]),
        said("result", "", None, [["x", "FP33", [2], 8]]),
        said("result", "", None, [["x", "FP32", [-2], 8]]),
        said("result", "", None, [["x", "FP32", [2] * 33, 8]]),
        said("result", "", None, [["x", "FP32", [2], 8]] * 257),
        said("result", "", None, [["x", "FP32", [2], 8]]),  # and no memory
        said("spilled", "", [0, 1]),
        said("spilled", "", [-1, 2**40]),
        said("spilled", "", "everything"),
        said("order", "", None, []),
    ],
)
def test_what_is_no_message_is_refused(ends: Ends, data: bytes) -> None:
    lane, other = ends
    other.send(data)
    with pytest.raises(BadPayload):
        lane.receive(1.0)


def passed(other: socket.socket, data: bytes, *descriptors: int) -> None:
    socket.send_fds(other, [data], list(descriptors))
    for descriptor in descriptors:
        os.close(descriptor)


def test_memory_that_could_shrink_is_refused(ends: Ends) -> None:
    lane, other = ends
    descriptor = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, 4096)
    passed(other, said("result", "", None, [["x", "FP32", [2], 8]]), descriptor)
    with pytest.raises(BadPayload, match="not sealed"):
        lane.receive(1.0)


def test_what_is_no_memory_is_refused(ends: Ends) -> None:
    lane, other = ends
    passed(other, said("result", "", None, []), os.open("/dev/null", os.O_RDONLY))
    with pytest.raises(BadPayload, match="no anonymous memory"):
        lane.receive(1.0)


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_descriptors_that_are_too_many_are_closed(ends: Ends) -> None:
    lane, other = ends
    before = open_descriptors()
    passed(other, said("result"), *(memory.sealed(b"x", "test") for _ in range(5)))
    with pytest.raises(BadPayload):
        lane.receive(1.0)
    assert open_descriptors() == before


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (["x", "FP32", [2**20], 2**22], "not within"),
        (["x", "FP32", [3], 8], "not those of its shape"),
        (["x", "FP64", [2**31, 2**31], 16], "not those of its shape"),
        (["x", "BYTES", [3], 8], "strings"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(ends: Ends, shape: list[object], words: str) -> None:
    lane, other = ends
    descriptor, _ = memory.arena(1)
    passed(other, said("result", "", None, [shape]), descriptor)
    with pytest.raises(BadPayload, match=words):
        lane.receive(1.0)


def test_a_packet_in_memory_leads_to_no_other() -> None:
    inner = said("spilled", "", [0, 1])
    with pytest.raises(BadPayload, match="leads to another"):
        unspill(Packet("spilled", payload=[0, len(inner)]), memoryview(inner))


def test_waiting_ends_in_time_and_with_the_other_side(ends: Ends) -> None:
    lane, other = ends
    with pytest.raises(Late):
        lane.receive(0.01)
    assert not lane.cancelled()
    other.close()
    assert lane.cancelled()
    with pytest.raises(Ended):
        lane.receive(1.0)
    with pytest.raises(Ended):
        lane.send("call")
    lane.cancel()


def test_sealed_memory_cannot_be_changed() -> None:
    descriptor = memory.sealed(b"weights", "model.onnx")
    try:
        with pytest.raises(PermissionError):
            os.pwrite(descriptor, b"W", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 1)
        assert bytes(memory.mapped(descriptor)) == b"weights"
    finally:
        os.close(descriptor)


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_fail(data: bytes) -> None:
    try:
        packet = decode(data)
    except BadPayload:
        return
    assert isinstance(packet, Packet)


shapes = st.builds(
    Shape,
    st.text(max_size=5),
    st.sampled_from(["FP32", "INT8", "BYTES", "BOOL", "FP64"]),
    st.lists(st.integers(0, 2**40), max_size=4).map(tuple),
    st.integers(0, 2**32),
)


@given(st.lists(shapes, max_size=4), st.binary(max_size=400))
def test_no_tensor_reaches_beyond_the_memory(described: list[Shape], data: bytes) -> None:
    places, _ = offsets(described)
    for shape, at in zip(described, places, strict=True):
        try:
            array = place(shape, memoryview(data), at)
        except BadPayload:
            continue
        assert array.shape == shape.sizes
        if shape.dtype != "BYTES":
            assert at + array.nbytes <= len(data)
            np.array(array)
