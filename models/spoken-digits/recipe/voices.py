"""A voice that says digits: a source and three formants, after Klatt (1980), in plain NumPy.

Harmonics of a gliding pitch are weighted by the resonances of a vocal tract that moves from sound to
sound; hiss and bursts are noise in a band. It is speech-like, and no one's voice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 16_000  # Hz
FRAME = 80  # samples between two settings of the tract, 5 ms
SMOOTH = 7  # frames over which one sound becomes the next
BANDWIDTHS = (80.0, 110.0, 160.0)  # of the formants, Hz

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sound:
    """A setting of the tract.

    Attributes:
        formants: their frequencies, Hz.
        ms: how long it is held.
        voice: how loud the harmonics are.
        hiss: how loud the noise is.
        band: middle and width of the noise, Hz.
    """

    formants: tuple[float, float, float]
    ms: float
    voice: float = 1.0
    hiss: float = 0.0
    band: tuple[float, float] = (5000.0, 1500.0)


_MIDDLE = (500.0, 1500.0, 2500.0)
SOUNDS = {
    "iy": Sound((270, 2290, 3010), 130),
    "ih": Sound((390, 1990, 2550), 90),
    "eh": Sound((530, 1840, 2480), 110),
    "ah": Sound((640, 1190, 2390), 110),
    "aa": Sound((730, 1090, 2440), 100),
    "ao": Sound((570, 840, 2410), 120),
    "ow": Sound((480, 880, 2350), 90),
    "uw": Sound((300, 870, 2240), 140),
    "n": Sound((250, 1300, 2300), 70, 0.35),
    "r": Sound((350, 1060, 1380), 70, 0.7),
    "w": Sound((290, 610, 2150), 70, 0.7),
    "v": Sound((250, 1100, 2200), 60, 0.4, 0.06, (4000, 2500)),
    "z": Sound((250, 1500, 2500), 80, 0.3, 0.20, (5500, 1200)),
    "s": Sound(_MIDDLE, 110, 0.0, 0.35, (5800, 1200)),
    "f": Sound(_MIDDLE, 90, 0.0, 0.12, (4200, 2500)),
    "th": Sound(_MIDDLE, 80, 0.0, 0.08, (5000, 3000)),
    "-": Sound(_MIDDLE, 45, 0.0),  # the closure before a burst
    "t": Sound((350, 1800, 2600), 25, 0.0, 0.45, (4500, 1500)),
    "k": Sound((350, 1900, 2400), 25, 0.0, 0.45, (2200, 700)),
}
DIGITS = {
    "zero": "z ih r ow uw",
    "one": "w ah n",
    "two": "- t uw",
    "three": "th r iy",
    "four": "f ao r",
    "five": "f aa ih v",
    "six": "s ih - k s",
    "seven": "s eh v ah n",
    "eight": "eh iy - t",
    "nine": "n aa ih n",
}


@dataclass(frozen=True, slots=True)
class Voice:
    """A speaker.

    Attributes:
        pitch: Hz.
        tract: factor of the formants; a short tract has high ones.
        speed: factor.
        tilt: how fast harmonics fall with frequency, decibels each octave.
        breath: share of noise in the voice.
        clarity: how far vowels are from the middle one; 1 is clear.
    """

    pitch: float
    tract: float
    speed: float
    tilt: float
    breath: float
    clarity: float


#: Pitch, Hz, and factor of the formants.
KINDS = {
    "low": ((85.0, 125.0), (0.90, 1.0)),
    "middle": ((125.0, 190.0), (0.97, 1.09)),
    "high": ((190.0, 280.0), (1.06, 1.20)),
}


def voice(kind: str, rng: np.random.Generator) -> Voice:
    """A speaker of a kind, by chance."""
    pitch, tract = KINDS[kind]
    return Voice(
        rng.uniform(*pitch),
        rng.uniform(*tract),
        rng.uniform(0.8, 1.3),
        rng.uniform(5, 11),
        rng.uniform(0.0, 0.08),
        rng.uniform(0.85, 1.1),
    )


def say(digit: str, speaker: Voice, rng: np.random.Generator) -> Floats:
    """One digit, each time a little different, float64 [samples], its peak at 1."""
    sounds = [SOUNDS[name] for name in DIGITS[digit].split()]
    frames = [max(3, round(s.ms / 5 / speaker.speed * rng.uniform(0.85, 1.2))) for s in sounds]
    count = sum(frames) * FRAME
    formants = [
        _track([_placed(s.formants[i], i, speaker, rng) for s in sounds], frames, count)
        for i in range(3)
    ]
    loud = _track([s.voice for s in sounds], frames, count)
    made = loud * _voiced(formants, _pitch(speaker, count, rng), speaker)
    made += loud * speaker.breath * rng.standard_normal(count)
    for begin, frame, sound in zip(np.cumsum([0, *frames[:-1]]), frames, sounds, strict=True):
        if sound.hiss:
            part = slice(begin * FRAME, (begin + frame) * FRAME)
            made[part] += sound.hiss * _hiss(frame * FRAME, sound.band, speaker, rng)
    made *= np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / 160)
    return made / np.abs(made).max()


def _placed(hertz: float, number: int, speaker: Voice, rng: np.random.Generator) -> float:
    middle = _MIDDLE[number]
    clear = middle + speaker.clarity * (hertz - middle)
    return max(180.0, clear) * speaker.tract * rng.uniform(0.97, 1.03)


def _track(values: Sequence[float], frames: Sequence[int], count: int) -> Floats:
    """A value for each sample: held, then moved to the next."""
    held = np.repeat(np.asarray(values, np.float64), frames)
    window = np.hanning(SMOOTH + 2)[1:-1]
    padded = np.pad(held, SMOOTH // 2, mode="edge")
    smooth = np.convolve(padded, window / window.sum(), mode="valid")
    return np.interp(np.arange(count) / FRAME, np.arange(len(smooth)), smooth)


def _pitch(speaker: Voice, count: int, rng: np.random.Generator) -> Floats:
    along = np.linspace(0, 1, count)
    glide = 1 + rng.uniform(-0.15, 0.1) * along + 0.02 * np.sin(2 * np.pi * 5 * along)
    return speaker.pitch * rng.uniform(0.92, 1.1) * glide


def _voiced(formants: Sequence[Floats], pitch: Floats, speaker: Voice) -> Floats:
    """Harmonics up to 4.5 kHz under the tract's envelope, about 1 in size."""
    every = np.cumsum(pitch) / RATE
    # The envelope moves slowly: it is taken once a frame.
    slow = [track[::FRAME] for track in (*formants, pitch)]
    at = np.arange(len(pitch)) / FRAME
    made = np.zeros(len(pitch))
    for number in range(1, int(4500 / pitch.mean()) + 1):
        hertz = number * slow[3]
        gain = np.ones(len(hertz))
        for track, width in zip(slow[:3], BANDWIDTHS, strict=True):
            gain *= track**2 / np.hypot(track**2 - hertz**2, width * hertz)
        gain *= 10 ** (-speaker.tilt / 20 * np.log2(number))
        made += np.interp(at, np.arange(len(gain)), gain) * np.sin(2 * np.pi * number * every)
    return made / (np.abs(made).max() + 1e-9)


def _hiss(
    count: int, band: tuple[float, float], speaker: Voice, rng: np.random.Generator
) -> Floats:
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    middle, width = band[0] * speaker.tract**0.5, band[1]
    shape = np.exp(-0.5 * ((hertz - middle) / width) ** 2)
    made = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * shape, count)
    fade = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / 60)
    return made / (np.abs(made).max() + 1e-9) * fade
