"""Recordings with their words: JSON lines that name wave files."""

import hashlib
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.errors import BadPayload, BadRequest
from tools.quantize.whisper.source import RATE
from tools.quantize.whisper.words import words

MAX_FILE = 16 * 2**20  # bytes of the JSON lines
MAX_LINES = 20_000
MAX_SECONDS = 30  # of a recording: a Whisper's window

Samples = NDArray[np.float32]
Words = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


@dataclass(frozen=True, slots=True)
class Recording:
    """A wave file, what is said in it, and the slices that it belongs to."""

    path: Path
    text: str
    slices: tuple[str, ...]

    def samples(self) -> Samples:
        """Float32 [samples], -1 to 1, 16 kHz. Raises BadPayload: the file is no such recording."""
        return _samples(self.path, str(self.path))


@dataclass(frozen=True, slots=True)
class Recordings:
    """An evaluation set.

    Attributes:
        each: at least one recording.
        digest: of texts and sounds: names the work.
        about: for the card.
    """

    each: tuple[Recording, ...]
    digest: str
    about: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    audio: Words
    text: Words
    slice: Words | list[Words] = []


def read(path: Path | None) -> Recordings:
    """The recordings of a file; every one of them is looked at.

    Raises:
        BadRequest: there is no file.
        BadPayload: a line, or the wave file that it names, is not what it must be; says which.
    """
    if path is None:
        hint = '--evaluate FILE of JSON lines: {"audio": "x.wav", "text": "…", "slice": "…"}'
        raise BadRequest("a Whisper is judged on recordings", where="--evaluate", hint=hint)
    digest = hashlib.sha256()
    each = []
    for number, line in _lines(path):
        where = f"{path}, line {number}"
        found = _recording(line, path.parent, where)
        digest.update(f"{found.text}\0{found.slices}\0".encode())
        digest.update(_samples(found.path, where).tobytes())
        each.append(found)
    if not each:
        raise BadPayload("there is no recording", where=str(path))
    about = f"{len(each)} recordings of {path.name}"
    return Recordings(tuple(each), digest.hexdigest(), about)


def _recording(line: bytes, folder: Path, where: str) -> Recording:
    hint = 'a line is {"audio": "x.wav", "text": "…"}, with "slice": "…" or a list if you like'
    try:
        found = msgspec.json.decode(line, type=_Line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPayload(str(error), where=where, hint=hint) from error
    if not words(found.text):
        raise BadPayload("there is no word in the text", where=where, hint=hint)
    slices = (found.slice,) if isinstance(found.slice, str) else tuple(found.slice)
    return Recording(folder / found.audio, found.text, slices)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        if path.stat().st_size > MAX_FILE:
            raise BadPayload(f"at most {MAX_FILE >> 20} MiB", where=str(path))
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise BadPayload(f"cannot be read: {error.strerror}", where=str(path)) from error
    if len(lines) > MAX_LINES:
        raise BadPayload(f"at most {MAX_LINES} lines", where=str(path))
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _samples(path: Path, where: str) -> Samples:
    if not path.exists():
        raise BadPayload(f"there is no file {path}", where=where)
    hint = f"Convert it: ffmpeg -i IN -ac 1 -ar {RATE} -sample_fmt s16 OUT.wav"
    try:
        with wave.open(str(path), "rb") as file:
            form = (file.getnchannels(), file.getsampwidth(), file.getframerate())
            frames = file.getnframes()
            if form != (1, 2, RATE):
                said = f"{form[0]} channel(s), {8 * form[1]} bits, {form[2]} Hz"
                message = f"{path.name} has {said}; 1 channel, 16 bits and {RATE} Hz are needed"
                raise BadPayload(message, where=where, hint=hint)
            if not 0 < frames <= MAX_SECONDS * RATE:
                message = (
                    f"{path.name} is {frames / RATE:.1f} s long; above 0, at most {MAX_SECONDS}"
                )
                raise BadPayload(message, where=where)
            data = file.readframes(frames)
    except (
        OSError,
        RuntimeError,
        wave.Error,
        EOFError,
    ) as error:  # wave's own seek raises bare ones
        raise BadPayload(f"{path.name} cannot be read: {error}", where=where, hint=hint) from error
    if len(data) != 2 * frames:
        raise BadPayload(f"{path.name} ends early", where=where)
    return (np.frombuffer(data, "<i2") / 32768).astype(np.float32)
