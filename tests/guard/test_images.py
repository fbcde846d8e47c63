"""Regions of an image are black before it is stored, and nothing of them is left."""

import struct
import zlib

import numpy as np
import pytest

from agent.errors import BadPayload, TooLarge
from agent.guard.images import Region, blank, read_pnm, write_png


def frame(height: int = 6, width: int = 8, channels: int = 3) -> np.ndarray:
    return np.arange(1, height * width * channels + 1, dtype=np.uint8).reshape(
        height, width, channels
    )


def pnm(pixels: np.ndarray) -> bytes:
    height, width, channels = pixels.shape
    return b"P%d\n%d %d\n255\n" % (5 if channels == 1 else 6, width, height) + pixels.tobytes()


def decoded(png: bytes) -> np.ndarray:
    """By the standard, as far as it is used here: one IDAT, filter 2."""
    width, height, _, colour = struct.unpack(">IIBB", png[16:26])
    channels = 3 if colour == 2 else 1
    at = png.index(b"IDAT")
    (size,) = struct.unpack(">I", png[at - 4 : at])
    rows = np.frombuffer(zlib.decompress(png[at + 4 : at + 4 + size]), np.uint8)
    rows = rows.reshape(height, 1 + width * channels)
    assert set(rows[:, 0]) == {2}
    return np.cumsum(rows[:, 1:], axis=0, dtype=np.uint8).reshape(height, width, channels)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_frame_goes_through_unchanged_but_for_its_regions(channels):
    pixels = frame(channels=channels)
    blanked = decoded(write_png(blank(read_pnm(pnm(pixels)), [Region(2, 1, 3, 2)])))
    assert not blanked[1:3, 2:5].any()
    blanked[1:3, 2:5] = pixels[1:3, 2:5]
    assert (blanked == pixels).all()


@pytest.mark.parametrize(
    "region", [Region(-5, -5, 100, 100), Region(0, 0, 8, 6), Region(-1, -1, 9, 7)]
)
def test_a_region_may_reach_beyond_the_edges(region):
    assert not blank(frame(), [region]).any()


@pytest.mark.parametrize("region", [Region(-5, 0, 3, 6), Region(9, 9, 5, 5), Region(3, 3, -2, -2)])
def test_a_region_outside_blanks_nothing(region):
    assert (blank(frame(), [region]) == frame()).all()


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xd8\xff\xe0 a JPEG", b"P6\n2 2\n65535\n", b"P6\n8 6\n255\n123", b"P5\n0 0\n255\n"],
)
def test_what_is_no_frame_is_refused(data):
    with pytest.raises(BadPayload):
        read_pnm(data)


def test_a_header_that_promises_too_much_is_refused_before_any_memory_is_taken():
    with pytest.raises(TooLarge):
        read_pnm(b"P6\n99999 99999\n255\n")
