"""What is heard besides: rushes, hums, beats and clicks, mixed by chance."""

import numpy as np
from numpy.typing import NDArray
from voices import RATE

COUNT = 160
LENGTH = 12 * RATE  # samples of each
HIGH_HUM = (55.0, 420.0)  # Hz: a motor's is lower, and kept for measuring

Floats = NDArray[np.float64]


def noises(rng: np.random.Generator, count: int = COUNT) -> list[Floats]:
    """So many, each LENGTH samples, 1 in standard deviation."""
    return [_scaled(_one(rng)) for _ in range(count)]


def cut(noise: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Some of it, from anywhere; it is repeated where it is too short."""
    at = int(rng.integers(len(noise)))
    return np.resize(np.roll(noise, -at), count)


def _one(rng: np.random.Generator) -> Floats:
    made = rng.uniform(0.2, 1) * _scaled(_coloured(rng))
    if rng.random() < 0.5:
        made = made + rng.uniform(0.2, 1.5) * _scaled(_hum(rng))
    if rng.random() < 0.5:
        made = made + rng.uniform(0.2, 1.5) * _scaled(_band(rng) * _beat(rng))
    if rng.random() < 0.2:
        made = made + rng.uniform(0.2, 1.0) * _scaled(_clicks(rng))
    return made


def _coloured(rng: np.random.Generator) -> Floats:
    """White to brown."""
    hertz = np.maximum(np.fft.rfftfreq(LENGTH, 1 / RATE), 20.0)
    spectrum = np.fft.rfft(rng.standard_normal(LENGTH)) / hertz ** rng.uniform(0, 1)
    return np.fft.irfft(spectrum, LENGTH)


def _hum(rng: np.random.Generator) -> Floats:
    """Harmonics of mains or of a whine."""
    at = np.arange(LENGTH) / RATE
    pitch, fall = rng.uniform(*HIGH_HUM), rng.uniform(0.3, 1.5)
    made = np.zeros(LENGTH)
    for number in range(1, min(40, int(6000 / pitch))):
        wave = np.sin(2 * np.pi * number * pitch * at + rng.uniform(0, 6))
        made += rng.uniform(0.2, 1) / number**fall * wave
    return made


def _band(rng: np.random.Generator) -> Floats:
    hertz = np.fft.rfftfreq(LENGTH, 1 / RATE)
    middle, width = 10 ** rng.uniform(2.3, 3.75), rng.uniform(150, 1200)
    shape = np.exp(-0.5 * ((hertz - middle) / width) ** 2)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(LENGTH)) * shape, LENGTH)


def _beat(rng: np.random.Generator) -> Floats:
    """How loud it is, along time: up and down, slower than a motor turns."""
    at = np.arange(LENGTH) / RATE
    return 1 + rng.uniform(0, 0.9) * np.sin(2 * np.pi * rng.uniform(0.5, 14) * at)


def _clicks(rng: np.random.Generator) -> Floats:
    made = np.zeros(LENGTH)
    places = rng.integers(0, LENGTH, rng.integers(10, 80))
    made[places] = rng.standard_normal(len(places))
    ring = np.exp(-np.arange(400) / rng.uniform(10, 100)) * rng.standard_normal(400)
    return np.convolve(made, ring)[:LENGTH]


def _scaled(noise: Floats) -> Floats:
    return noise / (noise.std() + 1e-9)
