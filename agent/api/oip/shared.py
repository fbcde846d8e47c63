"""Tensors that are in shared memory: where a request says they are. Pure."""

from typing import Any, NamedTuple, Protocol

from agent.errors import BadTensor

REGION = "shared_memory_region"
OFFSET = "shared_memory_offset"
SIZE = "shared_memory_byte_size"


class SharedRange(NamedTuple):
    """Bytes of a registered region.

    Attributes:
        region: the name under which it was registered.
        offset: of the first byte, within the region.
        size: bytes.
    """

    region: str
    offset: int
    size: int


class Shared(Protocol):
    """A caller's shared memory."""

    def read(self, place: SharedRange) -> bytes | memoryview:
        """The bytes.

        Raises:
            NotFound: the caller has no such region.
            BadTensor: the region does not hold these bytes.
        """

    def write(self, place: SharedRange, data: bytes | memoryview) -> None:
        """Put bytes at the start of the place. Raises as `read`."""


def shared_range(parameters: dict[str, Any], tensor: str) -> SharedRange | None:
    """Where a tensor is, if it is in shared memory.

    Raises:
        BadTensor: a parameter is missing or is no number of bytes.
    """
    region = parameters.get(REGION)
    if region is None:
        return None
    if not isinstance(region, str):
        raise BadTensor(f"{REGION} must be a name", where=tensor)
    return SharedRange(
        region, _bytes(parameters, OFFSET, 0, tensor), _bytes(parameters, SIZE, None, tensor)
    )


def described(place: SharedRange, size: int) -> dict[str, Any]:
    """What an answer says of an output that was put into shared memory."""
    return {REGION: place.region, OFFSET: place.offset, SIZE: size}


def _bytes(parameters: dict[str, Any], key: str, default: int | None, tensor: str) -> int:
    value = parameters.get(key, default)
    if type(value) is not int or not 0 <= value < 1 << 48:
        raise BadTensor(f"{key} must be a number of bytes", where=tensor)
    return value
