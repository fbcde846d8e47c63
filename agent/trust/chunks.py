"""Files as chunks: where they are cut, and the lists that name the pieces. Pure.

A file is cut where its content says so, so that an insertion moves the boundaries near it and no
others, and two versions of a file share the chunks that did not change: a gear hash over the last 32
bytes, a boundary where its upper bits are zero, with a least and a largest size (W. Xia et al.,
"FastCDC", USENIX ATC 2016, sections 2 and 3). The boundaries are a function of the content alone, so
a device finds in what it has the chunks that a publisher cut elsewhere.

A chunk travels under its SHA-256. What is larger than a chunk travels as a list under the SHA-256 of
the whole: each entry is a chunk, or the list of a part. Whoever holds a digest can tell the two apart:
a chunk is the bytes that have this digest, and anything else is a list or a forgery.
"""

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.errors import Altered
from agent.trust.digest import sha256_hex

MIN_BYTES = 16 << 10  # of a chunk, but for a file's last
MAX_BYTES = 120 << 10  # of a chunk, and of a list: fits under the 128 KiB of the cloud brokers
MAX_DEPTH = 3  # of lists in lists: 3,071³ chunks

_WINDOW = 32  # bytes that decide on a boundary
_SHIFT = np.uint32(16)  # the bits above are zero at a boundary: one byte in 65,536
_BLOCK_BYTES = 1 << 20  # hashed at once
_MAGIC = b"edge-agent chunks 1\n"
_ENTRY = struct.Struct(">32sQ")  # digest, size
MAX_ENTRIES = (MAX_BYTES - len(_MAGIC)) // _ENTRY.size

#: One random 32-bit value for each byte; released, so never changed.
_GEAR = np.array(
    [int.from_bytes(hashlib.sha256(_MAGIC + bytes([n])).digest()[:4], "big") for n in range(256)],
    np.uint32,
)


class Entry(NamedTuple):
    """A part of a file.

    Attributes:
        sha256: of its bytes, hexadecimal.
        size: bytes; more than `MAX_BYTES` are a list of their own.
    """

    sha256: str
    size: int


def cut(data: memoryview) -> Iterator[tuple[int, int]]:
    """Where each chunk of a file begins and ends, in order and without gaps."""
    start = 0
    for end in _candidates(data):
        while end - start > MAX_BYTES:
            yield start, start + MAX_BYTES
            start += MAX_BYTES
        if end - start >= MIN_BYTES:
            yield start, end
            start = end
    for begin in range(start, len(data), MAX_BYTES):
        yield begin, min(begin + MAX_BYTES, len(data))


def messages(data: memoryview) -> Iterator[tuple[str, bytes]]:
    """All that has to be published for a file: digest and payload, what is named before who names it.

    The last one carries the digest of the whole file.
    """
    entries: list[Entry] = []
    for start, end in cut(data):
        chunk = bytes(data[start:end])
        entries.append(Entry(sha256_hex(chunk), len(chunk)))
        yield entries[-1].sha256, chunk
    while len(entries) > 1:
        above: list[Entry] = []
        start = 0
        for group in _groups(entries):
            size = sum(entry.size for entry in group)
            part = Entry(sha256_hex(data[start : start + size]), size)
            if len(group) > 1:
                yield part.sha256, encode_list(group)
            above.append(part)
            start += size
        entries = above


def encode_list(entries: Sequence[Entry]) -> bytes:
    """A list for the wire."""
    packed = (_ENTRY.pack(bytes.fromhex(entry.sha256), entry.size) for entry in entries)
    return _MAGIC + b"".join(packed)


def is_list(payload: bytes) -> bool:
    """Whether bytes that are not what their name says may be the list of it."""
    return payload.startswith(_MAGIC)


def decode_list(payload: bytes, where: str, size: int | None = None) -> tuple[Entry, ...]:
    """The entries of a list. Nobody signed it: what it names is verified in the end.

    Args:
        payload: as it came.
        where: what to call it in errors.
        size: bytes that the entries must make together; None when nothing is known.

    Raises:
        Altered: not a list, or not one of something of this size.
    """
    body = payload[len(_MAGIC) :]
    if not is_list(payload) or not body or len(body) % _ENTRY.size:
        raise Altered("is neither what was signed nor the list of its chunks", where=where)
    entries = tuple(Entry(digest.hex(), count) for digest, count in _ENTRY.iter_unpack(body))
    total = sum(entry.size for entry in entries)
    if len(entries) > MAX_ENTRIES or 0 in {entry.size for entry in entries}:
        raise Altered("the list of its chunks is malformed", where=where)
    if size is not None and total != size:
        raise Altered(f"its chunks make {total} bytes, {size} were signed", where=where)
    return entries


def _groups(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    for start in range(0, len(entries), MAX_ENTRIES):
        yield entries[start : start + MAX_ENTRIES]


def _candidates(data: memoryview) -> Iterator[int]:
    """Positions after which a chunk may end, whatever its size."""
    view = np.frombuffer(data, np.uint8)
    for start in range(0, len(view), _BLOCK_BYTES):
        before = min(start, _WINDOW - 1)
        hashes = _gear_hashes(view[start - before : start + _BLOCK_BYTES])[before:]
        for at in np.flatnonzero((hashes >> _SHIFT) == 0).tolist():
            yield start + at + 1


def _gear_hashes(block: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The sum of gear[byte] << age over the last 32 bytes, modulo 2³², for each position.

    Sums over 2, 4, … 32 bytes, each from the one before: five passes instead of a loop over bytes.
    """
    hashes = _GEAR[block]
    span = 1
    while span < _WINDOW:
        older = hashes[:-span] << np.uint32(span)
        hashes[span:] += older
        span *= 2
    return hashes
