"""Recordings in the forms that people send."""

import io
from typing import Any

import av
import numpy as np

#: Container and codec of each form, by the ending of its files.
FORMS = {
    "mp3": ("mp3", "libmp3lame"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "webm": ("webm", "libopus"),
    "m4a": ("mp4", "aac"),
    "aac": ("adts", "aac"),
}


def encoded(ending: str, samples: np.ndarray[Any, Any], rate: int = 48_000) -> bytes:
    """Float samples of one channel, -1 to 1, as a file."""
    container_name, codec = FORMS[ending]
    held = io.BytesIO()
    with av.open(held, "w", format=container_name) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.layout = "mono"
        levels = np.rint(samples * 32767).astype("<i2")[None]
        frame = av.AudioFrame.from_ndarray(levels, format="s16", layout="mono")
        frame.rate, frame.pts = rate, 0
        size = stream.codec_context.frame_size or 0
        resampler = av.AudioResampler(stream.format.name, "mono", rate, frame_size=size)
        for part in (*resampler.resample(frame), *resampler.resample(None)):
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return held.getvalue()


def picture() -> bytes:
    """A film without sound, as mp4."""
    held = io.BytesIO()
    with av.open(held, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return held.getvalue()
