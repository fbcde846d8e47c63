"""What daemon and worker say to each other: packets, and where tensors lie. Pure.

A packet is a few MessagePack fields. The elements of tensors are in shared memory, one tensor after
the other, each at a multiple of `ALIGNMENT`; the packet says dtype and shape of each. A packet that
would be too large for its socket lies there too, after the tensors.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta, Struct

from agent.engines.base import DTYPE_NAMES, NUMPY_DTYPES
from agent.errors import BadPayload
from agent.types import Array, DType

ALIGNMENT = 64  # bytes: what vector instructions like best
MAX_PACKET = 48 * 1024  # bytes that go by the socket
MAX_MEMORY = 2**32  # bytes of one message's tensors
MAX_TENSORS = 256

#: Requests: a call has one result; a stream has pieces and an end; a cancelled one ends early.
#: Answers: result, piece, end, error. Spilled: the packet itself lies in shared memory.
Kind: TypeAlias = Literal["call", "stream", "cancel", "result", "piece", "end", "error", "spilled"]


Bytes: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_MEMORY)]


class Shape(Struct, frozen=True, array_like=True):
    """A tensor without its elements.

    Attributes:
        name: of the tensor.
        dtype: as the Open Inference Protocol has it.
        sizes: of its dimensions.
        nbytes: that its elements take.
    """

    name: str
    dtype: DType
    sizes: Annotated[tuple[Annotated[int, Meta(ge=0)], ...], Meta(max_length=32)]
    nbytes: Bytes


class Packet(Struct, frozen=True, array_like=True):
    """One message.

    Attributes:
        kind: what it is.
        method: what is called; empty in answers.
        payload: whatever MessagePack can say.
        tensors: that go with it, in the order in which they lie in shared memory.
    """

    kind: Kind
    method: str = ""
    payload: Any = None
    tensors: Annotated[tuple[Shape, ...], Meta(max_length=MAX_TENSORS)] = ()


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Packet).decode
_decode_strings = msgspec.msgpack.Decoder(list[bytes]).decode


def decode(data: bytes | memoryview) -> Packet:
    """A packet from its bytes.

    Raises:
        BadPayload: they are none.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload(f"not a packet: {error}") from error


def spilled(offset: int, size: int) -> Packet:
    """Says where in shared memory the packet lies."""
    return Packet("spilled", payload=[offset, size])


def unspill(packet: Packet, memory: memoryview | None) -> Packet:
    """The packet that lies in shared memory.

    Raises:
        BadPayload: there is none.
    """
    try:
        offset, size = msgspec.convert(packet.payload, tuple[Bytes, Bytes])
    except msgspec.ValidationError as error:
        raise BadPayload(f"not a place in shared memory: {error}") from error
    if memory is None or offset + size > len(memory):
        raise BadPayload("a packet is not within the shared memory")
    found = decode(memory[offset : offset + size])
    if found.kind == "spilled":
        raise BadPayload("a packet leads to another")
    return found


def describe(name: str, array: Array) -> tuple[Shape, Array]:
    """A tensor's description, and the array whose bytes are its elements.

    Strings are carried as one MessagePack list.
    """
    dtype = DTYPE_NAMES[array.dtype]
    if dtype == "BYTES":
        blob = np.frombuffer(encode(array.ravel().tolist()), np.uint8)
        return Shape(name, dtype, array.shape, blob.nbytes), blob
    return Shape(name, dtype, array.shape, array.nbytes), array


def offsets(tensors: Sequence[Shape]) -> tuple[list[int], int]:
    """Where each tensor begins, and the first free byte after them."""
    places, at = [], 0
    for tensor in tensors:
        places.append(at)
        at += -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
    return places, at


def place(tensor: Shape, memory: memoryview, offset: int) -> Array:
    """The tensor that lies in shared memory: a view of it, strings excepted.

    Raises:
        BadPayload: it does not lie within the memory, or its bytes are not those of its shape.
    """
    dtype = NUMPY_DTYPES[tensor.dtype]
    elements = math.prod(tensor.sizes)
    if offset + tensor.nbytes > len(memory):
        raise BadPayload("a tensor is not within the shared memory", where=tensor.name)
    if tensor.dtype == "BYTES":
        return _strings(tensor, memory[offset : offset + tensor.nbytes], elements)
    if elements * dtype.itemsize != tensor.nbytes:
        raise BadPayload("a tensor's bytes are not those of its shape", where=tensor.name)
    try:
        return np.ndarray(tensor.sizes, dtype, memory, offset)
    except ValueError as error:  # no elements, and yet dimensions that overflow
        raise BadPayload(f"a tensor's shape is impossible: {error}", where=tensor.name) from error


def _strings(tensor: Shape, data: memoryview, elements: int) -> Array:
    try:
        strings = _decode_strings(data)
    except msgspec.MsgspecError as error:
        raise BadPayload(f"a tensor's strings are damaged: {error}", where=tensor.name) from error
    if len(strings) != elements:
        raise BadPayload("a tensor's strings are not those of its shape", where=tensor.name)
    array = np.empty(elements, object)
    array[:] = strings
    return array.reshape(tensor.sizes)
