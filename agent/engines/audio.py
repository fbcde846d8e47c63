"""Recordings as files, made into sound that models hear. The only file that imports PyAV.

What a caller sends is decoded by FFmpeg's libraries. Of the forms that they know, those are taken that
hold sound and nothing else: a playlist, which FFmpeg would follow to other files and hosts, is none
of them. Where models are isolated, this runs in the model's process too.
"""

import io
from collections.abc import Generator, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.errors import BadPayload, EngineMissing, TooLarge
from agent.types import Array

RATE = 16_000  # samples a second, as Whisper hears
MAX_FILE = 25 * 2**20  # bytes, as OpenAI's
MAX_SECONDS = 4 * 3600  # of a recording

Sound = npt.NDArray[np.float32]

#: How each form begins, where that is, and FFmpeg's name for it.
_FORMS: tuple[tuple[int, bytes, str], ...] = (
    (8, b"WAVE", "wav"),
    (0, b"fLaC", "flac"),
    (0, b"OggS", "ogg"),
    (0, b"\x1aE\xdf\xa3", "matroska"),
    (4, b"ftyp", "mov"),
    (0, b"ID3", "mp3"),
    (0, b"\xff\xf1", "aac"),
    (0, b"\xff\xf9", "aac"),
)
_HINT = "Send wav, flac, ogg, mp3, m4a, mp4, webm or aac"


def blocks(data: bytes | memoryview | Array) -> Generator[Sound, None, None]:
    """A recording's sound, bit by bit, so that a long one needs no more memory than a short one.

    Args:
        data: the whole file; of a video the first sound track is taken.

    Yields:
        Float32 [samples], -1 to 1, one channel, 16 kHz.

    Raises:
        BadPayload: it is no recording, or damaged from the start.
        TooLarge: it is longer than `MAX_SECONDS`.
        EngineMissing: PyAV is not installed.
    """
    taken = 0
    for block in _decoded(bytes(data)):
        taken += len(block)
        if taken > MAX_SECONDS * RATE:
            raise TooLarge(f"a recording of more than {MAX_SECONDS // 3600} hours", where="file")
        yield block
    if not taken:
        raise BadPayload("there is no sound in it", where="file")


def form(data: bytes) -> str:
    """FFmpeg's name of a file's form, by how it begins. Raises BadPayload: none that is taken."""
    for at, mark, name in _FORMS:
        if data[at : at + len(mark)] == mark:
            return name
    if len(data) > 1 and data[0] == 0xFF and data[1] & 0xE6 in {0xE2, 0xE4, 0xE6}:
        return "mp3"  # a bare frame: eleven bits of synchronization, and layer 1, 2 or 3
    raise BadPayload("not a recording of a known form", where="file", hint=_HINT)


def _decoded(data: bytes) -> Iterator[Sound]:
    av = _library()
    name = form(data)
    try:
        with av.open(io.BytesIO(data), format=name, **_of_tags(av)) as container:
            if not container.streams.audio:
                raise BadPayload("there is no sound in it", where="file")
            yield from _resampled(av, container)
    except (av.FFmpegError, ValueError) as error:
        message = f"the recording cannot be read: {getattr(error, 'strerror', error)}"
        raise BadPayload(message, where="file", hint=_HINT) from error


def _of_tags(av: Any) -> dict[str, str]:
    """Has tags that are no Unicode left out, which releases before 19 refuse a recording for."""
    return {"metadata_errors": "ignore"} if int(av.__version__.partition(".")[0]) < 19 else {}


def _resampled(av: Any, container: Any) -> Iterator[Sound]:
    # In 16 bits channels are mixed so that their sum cannot exceed the scale; in floats they are not.
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    for frame in chain(_frames(av, container), [None]):
        if frame is not None:
            frame.pts = None  # a recording with gaps in its times is taken as it comes
        for resampled in resampler.resample(frame):
            yield resampled.to_ndarray()[0].astype(np.float32) / 32768


def _frames(av: Any, container: Any) -> Iterator[Any]:
    """What can be decoded; a damaged packet in the middle is left out, as players do."""
    stream = container.streams.audio[0]
    for packet in container.demux(stream):
        try:
            yield from packet.decode()
        except av.error.InvalidDataError:
            continue


def _library() -> Any:
    try:
        import av
    except ImportError as error:
        raise EngineMissing(
            "PyAV is not installed", hint="Run: pip install 'edge-agent[speech]'"
        ) from error
    av.logging.set_level(None)
    return av
