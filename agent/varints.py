"""Numbers as Protocol Buffers writes them: groups of seven bits, the least significant first. Pure."""

from agent.errors import BadPayload

MAX_BITS = 70  # ten groups, as much as a number of 64 bits takes


def varint(value: int) -> bytes:
    """A number that is not negative."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, where: str) -> tuple[int, int]:
    """The number that begins at `at`, and where the next byte is.

    Raises:
        BadPayload: it has no end; `where` is what the error calls the data.
    """
    value = shift = 0
    while at < len(data) and shift < MAX_BITS:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise BadPayload("a number has no end", where=where)
