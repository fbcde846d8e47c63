"""Headers of requests and answers: HPACK (RFC 7541), and gRPC's own words in them. Pure."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from agent.api.grpc.frames import COMPRESSION_ERROR, PROTOCOL_ERROR, ConnectionFailed

MAX_LIST = 16 * 1024  # bytes of all headers of a request, as RFC 7541 section 4.1 counts them
MAX_KEPT = 32  # header blocks that are remembered

Headers = Mapping[bytes, bytes]

_UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}


class HeaderReader:
    """Reads the header blocks of one connection, which share a table.

    A client repeats its headers; a block that only points into the table means the same as before as
    long as the table has not changed. Such blocks are remembered.
    """

    def __init__(self) -> None:
        import hpack

        self._decoder: Any = hpack.Decoder(max_header_list_size=MAX_LIST)
        self._failures = (hpack.HPACKError, hpack.OversizedHeaderListError)
        self._known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Names and values of a block; of a name that is repeated, the last.

        Raises:
            ConnectionFailed: it cannot be read, or is too long. The table is lost then, and with it
                the connection.
        """
        if (known := self._known.get(block)) is not None:
            return known
        try:
            found = {bytes(name): bytes(value) for name, value in self._decode(block)}
        except self._failures as error:
            raise ConnectionFailed(COMPRESSION_ERROR, f"headers cannot be read: {error}") from error
        if not _only_points(block):
            self._known.clear()
        elif len(self._known) < MAX_KEPT:
            self._known[block] = found
        return found

    def _decode(self, block: bytes) -> Any:
        return self._decoder.decode(block, raw=True)


def _only_points(block: bytes) -> bool:
    """Whether each representation is one byte that names an entry of the table (section 6.1)."""
    return all(0x80 < byte < 0xFF for byte in block)


def check_request(headers: Headers) -> str:
    """The path that is called.

    Raises:
        ConnectionFailed: a pseudo-header is missing: nothing that speaks HTTP/2 sends that.
    """
    if b":path" not in headers or b":method" not in headers or b"connection" in headers:
        raise ConnectionFailed(PROTOCOL_ERROR, "headers that no request has")
    return headers[b":path"].decode("latin-1")


def timeout_of(headers: Headers) -> float | None:
    """Seconds until the caller gives up; None when it does not say, or not in gRPC's way."""
    text = headers.get(b"grpc-timeout", b"").decode("latin-1")
    if not (2 <= len(text) <= 9 and text[:-1].isdigit() and text[-1] in _UNITS):
        return None
    return int(text[:-1]) * _UNITS[text[-1]]


def _literal(name: str, value: str) -> bytes:
    """A header that enters no table and is not compressed (section 6.2.2)."""
    parts = []
    for text in (name.encode(), value.encode()):
        size = len(text)
        length = bytes([size]) if size < 127 else bytes([127]) + _rest(size - 127)
        parts += [length, text]
    return b"\x00" + b"".join(parts)


def _rest(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


_STATUS_200 = b"\x88"  # entry 8 of the static table
ACCEPTED = "identity,gzip,deflate"

#: Before the first message of an answer.
ANSWER = _STATUS_200 + _literal("content-type", "application/grpc")
#: After the last message of an answer.
DONE = _literal("grpc-status", "0")
#: To a request that is not gRPC's.
NOT_GRPC = _literal(":status", "415")


def failed(status: int, message: str, *, alone: bool) -> bytes:
    """What ends a call that failed.

    Args:
        status: gRPC's code.
        message: for people.
        alone: nothing of an answer was sent before.
    """
    told = quote(message[:1000], safe=" !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~")
    trailers = _literal("grpc-status", str(status)) + _literal("grpc-message", told)
    return ANSWER + _literal("grpc-accept-encoding", ACCEPTED) + trailers if alone else trailers
