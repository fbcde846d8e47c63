"""Images that leave the device: chosen regions are black before anything is stored. Pure.

Frames come as binary Netpbm (PGM or PPM, one line of header before the pixels), which every camera
library writes, and leave as PNG without metadata.
"""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.errors import BadPayload, TooLarge

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 1 << 24  # of one frame
MAX_REGIONS = 256

_HEADER = re.compile(rb"P([56])\s+(\d{1,5})\s+(\d{1,5})\s+255\s")
_COLOUR_TYPES = {1: 0, 3: 2}  # PNG (ISO/IEC 15948), 11.2.2: channels -> grey, colour


@dataclass(frozen=True, slots=True)
class Region:
    """A rectangle of an image, in pixels from the upper left corner; may reach beyond the edges."""

    x: int
    y: int
    width: int
    height: int


def read_pnm(data: bytes) -> "NDArray[np.uint8]":
    """A binary PGM or PPM of 8 bits as uint8 [height, width, channels].

    Raises:
        BadPayload: it is none.
        TooLarge: it has too many pixels.
    """
    import numpy as np

    found = _HEADER.match(data)
    if found is None:
        raise BadPayload("must be a binary PGM or PPM with values up to 255", where="image")
    channels = 1 if found[1] == b"5" else 3
    width, height = int(found[2]), int(found[3])
    if width * height > MAX_PIXELS:
        raise TooLarge(
            f"an image of {width} by {height} is over {MAX_PIXELS} pixels", where="image"
        )
    pixels = np.frombuffer(data, np.uint8, offset=found.end())
    if not width or not height or len(pixels) != width * height * channels:
        raise BadPayload("the pixels are not as many as the header says", where="image")
    return pixels.reshape(height, width, channels)


def blank(pixels: "NDArray[np.uint8]", regions: Sequence[Region]) -> "NDArray[np.uint8]":
    """A copy of uint8 [height, width, channels] with the regions black."""
    blanked = pixels.copy()
    for region in regions:
        rows = slice(max(region.y, 0), max(region.y + region.height, 0))
        columns = slice(max(region.x, 0), max(region.x + region.width, 0))
        blanked[rows, columns] = 0
    return blanked


def write_png(pixels: "NDArray[np.uint8]") -> bytes:
    """uint8 [height, width, 1 or 3] as a PNG with nothing but the pixels in it."""
    import numpy as np

    height, width, channels = pixels.shape
    # Each row after its filter byte: 2, the difference to the row above, suits camera frames.
    above = np.vstack([np.zeros_like(pixels[:1]), pixels[:-1]])
    rows = (pixels - above).reshape(height, width * channels)
    filtered = np.hstack([np.full((height, 1), 2, np.uint8), rows]).tobytes()
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(filtered, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
