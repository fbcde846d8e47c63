"""Utterances: digits in a row, by voices, in noise; those of the evaluation by other voices in other noise."""

import json
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from voices import DIGITS, KINDS, RATE, Voice, say, voice

MOST_DIGITS = 5
TRAINED_VOICES, KEPT_VOICES = 20, 4  # of each kind
VARIANTS = 3  # of each digit of a voice of training
NOISES = {"clean": None, "machine noise, 20 dB": 20.0, "machine noise, 10 dB": 10.0}
EACH = 8  # utterances of a kept voice in a noise

Floats = NDArray[np.float64]


class Utterance(NamedTuple):
    """Sound, float32 [samples] of 16 kHz, what is said, and the slices that it belongs to."""

    audio: NDArray[np.float32]
    text: str
    slices: tuple[str, ...] = ()


@dataclass(slots=True)
class Bank:
    """Digits said by the voices of training, ready to be put in a row."""

    words: dict[str, list[list[Floats]]]  # digit -> voice -> variant
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int) -> "Bank":
        rng = np.random.default_rng(seed)
        voices = [voice(kind, rng) for kind in KINDS for _ in range(TRAINED_VOICES)]
        words = {d: [[say(d, v, rng) for _ in range(VARIANTS)] for v in voices] for d in DIGITS}
        return cls(words, rng)

    def utterance(self, most: int) -> Utterance:
        """One to `most` digits by one voice, in noise of training, at 3 dB or better."""
        rng = self.rng
        speaker = rng.integers(len(KINDS) * TRAINED_VOICES)
        digits = rng.choice(list(DIGITS), rng.integers(1, most + 1))
        words = [self.words[d][speaker][rng.integers(VARIANTS)] for d in digits]
        audio = in_a_row([stretched(w, rng.uniform(0.88, 1.14)) for w in words], rng)
        if rng.random() < 0.8:
            audio = mixed(audio, _noise_of_training(len(audio), rng), rng.uniform(3, 35))
        return Utterance(scaled(audio, rng), " ".join(digits))


def in_a_row(words: Sequence[Floats], rng: np.random.Generator) -> Floats:
    """Words with short silences between them."""
    parts: list[Floats] = [np.zeros(rng.integers(800, 4800))]
    for word in words:
        parts += [word * rng.uniform(0.6, 1.0), np.zeros(rng.integers(300, 3200))]
    return np.concatenate([*parts, np.zeros(rng.integers(800, 4800))])


def stretched(word: Floats, factor: float) -> Floats:
    """As if said faster and higher, or slower and lower, by resampling."""
    count = int(len(word) / factor)
    return np.interp(np.arange(count) * factor, np.arange(len(word)), word)


def mixed(audio: Floats, noise: Floats, decibels: float) -> Floats:
    """With noise at a ratio of speech to it."""
    wanted = audio.std() / 10 ** (decibels / 20)
    return audio + noise * wanted / (noise.std() + 1e-9)


def scaled(audio: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    """At a loudness by chance."""
    return (audio / np.abs(audio).max() * rng.uniform(0.1, 0.95)).astype(np.float32)


def _noise_of_training(count: int, rng: np.random.Generator) -> Floats:
    """White to brown, some of it with the hum of mains."""
    hertz = np.maximum(np.fft.rfftfreq(count, 1 / RATE), 20.0)
    spectrum = np.fft.rfft(rng.standard_normal(count)) / hertz ** rng.uniform(0, 1)
    noise = np.fft.irfft(spectrum, count)
    hum = np.sin(2 * np.pi * rng.choice([50, 60, 100, 120]) * np.arange(count) / RATE)
    return noise / noise.std() + hum * rng.uniform(0, 1.5) * (rng.random() < 0.4)


def machine(count: int, rng: np.random.Generator) -> Floats:
    """A motor, which training has nothing of: harmonics of a speed, and a band that beats with it."""
    at = np.arange(count) / RATE
    speed = rng.uniform(18, 45)
    hum = sum(
        rng.uniform(0.2, 1) / k**0.7 * np.sin(2 * np.pi * k * speed * at + rng.uniform(0, 6))
        for k in range(1, 40)
    )
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    band = np.exp(-0.5 * ((hertz - rng.uniform(800, 2500)) / 700) ** 2)
    rush = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * band, count)
    beaten = rush / rush.std() * (1 + 0.8 * np.sin(2 * np.pi * speed * at))
    return hum / np.std(hum) + 0.7 * beaten


def kept_aside(seed: int) -> Iterator[Utterance]:
    """The evaluation set: voices that training has nothing of, quiet and beside a machine."""
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        for speaker in [voice(kind, rng) for _ in range(KEPT_VOICES)]:
            for name, decibels in NOISES.items():
                for _ in range(EACH):
                    yield _kept(speaker, (f"{kind} voice", name), decibels, rng)


def _kept(
    speaker: Voice, slices: tuple[str, ...], decibels: float | None, rng: np.random.Generator
) -> Utterance:
    digits = rng.choice(list(DIGITS), rng.integers(1, MOST_DIGITS + 1))
    audio = in_a_row([say(d, speaker, rng) for d in digits], rng)
    if decibels is not None:
        audio = mixed(audio, machine(len(audio), rng), decibels)
    return Utterance(scaled(audio, rng), " ".join(digits), slices)


def write_set(folder: Path, utterances: Iterator[Utterance]) -> Path:
    """Wave files with the JSON lines that `edge-quantize whisper --evaluate` reads."""
    lines = []
    for number, (audio, text, slices) in enumerate(utterances):
        name = f"{number:04d}.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((audio * 32767).round().astype("<i2").tobytes())
        lines.append(json.dumps({"audio": name, "text": text, "slice": list(slices)}))
    path = folder / "kept-aside.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
