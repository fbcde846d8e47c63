"""HTTP/2 frames (RFC 9113), as far as gRPC uses them. Pure."""

from typing import NamedTuple

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADER = 9  # bytes before each frame's payload

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = 0, 1, 2, 3, 4
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 5, 6, 7, 8, 9

END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20

NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = 0, 1, 2, 3
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11

SETTINGS_INITIAL_WINDOW, SETTINGS_MAX_FRAME = 4, 5

DEFAULT_WINDOW = 65_535  # bytes
DEFAULT_MAX_FRAME = 16_384
LARGEST_WINDOW = 2**31 - 1


class ConnectionFailed(Exception):
    """The peer broke the protocol; the connection ends with this code (RFC 9113, section 7)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """One frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    head = (len(payload) << 40 | kind << 32 | flags << 24).to_bytes(8, "big")[:5]
    return head + stream.to_bytes(4, "big") + payload


def read_frame(buffer: bytearray, start: int, largest: int) -> Frame | None:
    """The frame that begins at `start`; None while it is not whole.

    Raises:
        ConnectionFailed: it says that it is larger than `largest` bytes.
    """
    if len(buffer) - start < HEADER:
        return None
    length = buffer[start] << 16 | buffer[start + 1] << 8 | buffer[start + 2]
    if length > largest:
        raise ConnectionFailed(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
    end = start + HEADER + length
    if len(buffer) < end:
        return None
    stream = int.from_bytes(buffer[start + 5 : start + 9], "big") & 0x7FFF_FFFF
    return Frame(buffer[start + 3], buffer[start + 4], stream, bytes(buffer[start + HEADER : end]))


def unpadded(found: Frame) -> bytes:
    """The payload of DATA or HEADERS without padding and priority.

    Raises:
        ConnectionFailed: the padding is longer than the frame.
    """
    payload, start, end = found.payload, 0, len(found.payload)
    if found.flags & PADDED:
        if not payload:
            raise ConnectionFailed(FRAME_SIZE_ERROR, "padding without its length")
        start, end = 1, end - payload[0]
    if found.kind == HEADERS and found.flags & WITH_PRIORITY:
        start += 5
    if start > end:
        raise ConnectionFailed(PROTOCOL_ERROR, "more padding than payload")
    return payload[start:end]


def read_settings(payload: bytes) -> dict[int, int]:
    """Settings by their number.

    Raises:
        ConnectionFailed: not a whole number of settings, or a value that may not be.
    """
    if len(payload) % 6:
        raise ConnectionFailed(FRAME_SIZE_ERROR, "a setting has six bytes")
    found = {}
    for start in range(0, len(payload), 6):
        key = int.from_bytes(payload[start : start + 2], "big")
        found[key] = int.from_bytes(payload[start + 2 : start + 6], "big")
    if found.get(SETTINGS_INITIAL_WINDOW, 0) > LARGEST_WINDOW:
        raise ConnectionFailed(FLOW_CONTROL_ERROR, "a window of more than 2^31 - 1 bytes")
    if not DEFAULT_MAX_FRAME <= found.get(SETTINGS_MAX_FRAME, DEFAULT_MAX_FRAME) < 1 << 24:
        raise ConnectionFailed(PROTOCOL_ERROR, "a largest frame that may not be")
    return found


def settings(values: dict[int, int]) -> bytes:
    """A SETTINGS frame."""
    payload = b"".join(k.to_bytes(2, "big") + v.to_bytes(4, "big") for k, v in values.items())
    return frame(SETTINGS, 0, 0, payload)


def window_update(stream: int, size: int) -> bytes:
    """A WINDOW_UPDATE frame: the peer may send so many bytes more."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """A RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int, reason: str = "") -> bytes:
    """A GOAWAY frame."""
    payload = last.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode()[:200]
    return frame(GOAWAY, 0, 0, payload)


def number(payload: bytes) -> int:
    """The number that WINDOW_UPDATE or RST_STREAM carries. Raises ConnectionFailed."""
    if len(payload) != 4:
        raise ConnectionFailed(FRAME_SIZE_ERROR, "a frame of the wrong size")
    return int.from_bytes(payload, "big") & 0x7FFF_FFFF
