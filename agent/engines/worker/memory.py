"""Shared memory without a name: memfds, sealed so that nobody can make a mapping of them fail.

A mapping of memory that its owner could shrink would end the process that reads it (SIGBUS); so both
sides take only memory that is sealed against shrinking. What must not change any more, a package's
files, is sealed against writing as well.
"""

import fcntl
import mmap
import os
from collections.abc import Sequence

from agent.errors import BadPayload

_FIXED_SIZE = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
_UNCHANGEABLE = _FIXED_SIZE | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL

SMALLEST = 64 * 1024  # bytes of an arena; it doubles from there


def sealed(data: bytes | memoryview, name: str) -> int:
    """A descriptor of memory that holds these bytes for ever. The caller closes it."""
    descriptor = _create(name)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _UNCHANGEABLE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def arena(size: int) -> tuple[int, memoryview]:
    """New memory of at least so many bytes, to write to and to share: its descriptor, and itself."""
    descriptor = _create("arena")
    try:
        os.ftruncate(descriptor, 1 << (max(size, SMALLEST) - 1).bit_length())
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _FIXED_SIZE)
        return descriptor, _map(descriptor, mmap.PROT_READ | mmap.PROT_WRITE)
    except BaseException:
        os.close(descriptor)
        raise


def mapped_once(descriptors: Sequence[int]) -> memoryview:
    """Memory that the other side passed, to read from. The descriptors are closed.

    Raises:
        BadPayload: it is not one, could shrink, or is no shared memory at all.
    """
    try:
        if len(descriptors) != 1:
            raise BadPayload(f"{len(descriptors)} descriptors were passed instead of one")
        return mapped(descriptors[0])
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def mapped(descriptor: int) -> memoryview:
    """Memory to read from, which cannot shrink.

    Raises:
        BadPayload: it could, or is no anonymous memory at all.
    """
    try:
        seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    except OSError as error:
        raise BadPayload("what was passed is no anonymous memory") from error
    if not seals & fcntl.F_SEAL_SHRINK:
        raise BadPayload("the shared memory is not sealed")
    return _map(descriptor, mmap.PROT_READ)


def _create(name: str) -> int:
    return os.memfd_create(f"edge-agent-{name}"[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def _map(descriptor: int, protection: int) -> memoryview:
    size = os.fstat(descriptor).st_size
    if size == 0:
        raise BadPayload("the shared memory is empty")
    return memoryview(mmap.mmap(descriptor, size, prot=protection))
