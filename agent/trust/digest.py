"""SHA-256 of bytes, and of files while they are read."""

import ctypes
import hashlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

CHUNK_BYTES = 4 << 20
PARALLEL_FROM_BYTES = 2 * CHUNK_BYTES  # below this, a thread costs more than it saves
HUGE_PAGE_BYTES = 2 << 20  # of x86-64 and of Arm with pages of 4 KiB


class Readable(Protocol):
    """A file opened for reading, without a buffer of its own."""

    def fileno(self) -> int: ...

    def read(self, size: int, /) -> bytes: ...

    def readinto(self, buffer: memoryview, /) -> int: ...


def sha256_hex(data: bytes | memoryview) -> str:
    """The SHA-256 digest, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_hashed(file: Readable, size: int) -> tuple[bytes, str]:
    """Read a file into memory, once, and hash the very bytes that are returned.

    Large files are hashed by a second thread while they are read, which hides most of the cost.

    Args:
        file: at its beginning.
        size: bytes that it should have; a longer one is read one byte further and no more, which
            is enough for the digest to be wrong.

    Returns:
        The bytes and their digest.

    Raises:
        OSError: the file cannot be read.
    """
    there = min(size, os.fstat(file.fileno()).st_size)  # a truncated file takes what it has
    if there < PARALLEL_FROM_BYTES:
        data = file.read(there + 1)
        return data, sha256_hex(data)
    data, room = _unwritten(there)
    digest, at = hashlib.sha256(), 0
    with ThreadPoolExecutor(1, "sha256") as hasher:
        while count := file.readinto(room[at : at + CHUNK_BYTES]):
            hasher.submit(digest.update, room[at : at + count])
            at += count
    more = file.read(1)  # of a file that is longer than it should be
    digest.update(more)
    return (data[:at] + more if more or at < there else data), digest.hexdigest()


def _unwritten(size: int) -> tuple[bytes, memoryview]:
    """A bytes object whose memory was not touched yet, and that memory, to be written once.

    What C extensions do to read into bytes (PyBytes_FromStringAndSize without a string): the engines
    take bytes, and to grow them, or to clear them first, costs as much as reading the file.
    """
    make, address_of = ctypes.pythonapi.PyBytes_FromStringAndSize, ctypes.pythonapi.PyBytes_AsString
    make.restype, make.argtypes = ctypes.py_object, (ctypes.c_char_p, ctypes.c_ssize_t)
    address_of.restype, address_of.argtypes = ctypes.c_void_p, (ctypes.py_object,)
    data: bytes = make(None, size)
    address: int = address_of(data)
    _ask_for_huge_pages(address, size)
    return data, memoryview((ctypes.c_char * size).from_address(address)).cast("B")


def _ask_for_huge_pages(address: int, size: int) -> None:
    """Have the kernel map the whole huge pages of some memory at once; a hint, which it may refuse.

    Half of the time of reading 100 MB goes into mapping 25,000 pages of 4 KiB, one fault each.
    """
    start = -(-address // HUGE_PAGE_BYTES) * HUGE_PAGE_BYTES
    length = (address + size - start) // HUGE_PAGE_BYTES * HUGE_PAGE_BYTES
    advice = getattr(mmap, "MADV_HUGEPAGE", None)  # of Linux
    if advice is not None and length > 0:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
