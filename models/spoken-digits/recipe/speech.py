"""Utterances: digits in a row, by voices, in noise; those of the evaluation by other voices in other noise."""

import json
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from noises import COUNT, cut, noises
from numpy.typing import NDArray
from voices import DIGITS, KINDS, RATE, Voice, say, voice

MOST_DIGITS = 5
TRAINED_VOICES, KEPT_VOICES = 60, 4  # of each kind
VARIANTS = 2  # of each digit of a voice of training
NOISES = {"clean": None, "machine noise, 20 dB": 20.0, "machine noise, 10 dB": 10.0}
EACH = 8  # utterances of a kept voice in a noise
MOTOR = (18.0, 45.0)  # turns a second of the machine of the evaluation

Floats = NDArray[np.float64]


class Utterance(NamedTuple):
    """Something said.

    Attributes:
        audio: float32 [samples] of 16 kHz.
        text: its words.
        slices: of the evaluation that it belongs to.
        places: samples of each word, where they are known.
    """

    audio: NDArray[np.float32]
    text: str
    slices: tuple[str, ...] = ()
    places: tuple[slice, ...] = ()


@dataclass(slots=True)
class Bank:
    """Digits said by the voices of training, ready to be put in a row."""

    words: dict[str, list[list[Floats]]]  # digit -> voice -> variant
    noises: list[Floats]
    rng: np.random.Generator

    @classmethod
    def of(cls, seed: int, voices: int = TRAINED_VOICES, noise: int = COUNT) -> "Bank":
        """So many voices of each kind, and so many noises."""
        rng = np.random.default_rng(seed)
        speakers = [voice(kind, rng) for kind in KINDS for _ in range(voices)]
        words = {d: [[say(d, v, rng) for _ in range(VARIANTS)] for v in speakers] for d in DIGITS}
        return cls(words, noises(rng, noise), rng)

    def utterance(self, most: int) -> Utterance:
        """One to `most` digits by one voice, in noise of training, at 2 dB or better."""
        rng = self.rng
        speaker = rng.integers(len(self.words[next(iter(DIGITS))]))
        digits = rng.choice(list(DIGITS), rng.integers(1, most + 1))
        words = [self.words[d][speaker][rng.integers(VARIANTS)] for d in digits]
        audio, places = in_a_row([stretched(w, rng.uniform(0.88, 1.14)) for w in words], rng)
        if rng.random() < 0.85:
            noise = cut(self.noises[rng.integers(len(self.noises))], len(audio), rng)
            audio = mixed(audio, noise, rng.uniform(2, 30))
        return Utterance(scaled(audio, rng), " ".join(digits), places=tuple(places))


def in_a_row(words: Sequence[Floats], rng: np.random.Generator) -> tuple[Floats, list[slice]]:
    """Words with short silences between them, and where they are."""
    parts: list[Floats] = [np.zeros(rng.integers(800, 4800))]
    places, at = list[slice](), len(parts[0])
    for word in words:
        silence = np.zeros(rng.integers(300, 3200))
        places.append(slice(at, at + len(word)))
        parts += [word * rng.uniform(0.6, 1.0), silence]
        at += len(word) + len(silence)
    return np.concatenate([*parts, np.zeros(rng.integers(800, 4800))]), places


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


def machine(count: int, rng: np.random.Generator) -> Floats:
    """A motor, which training has nothing of: harmonics of a speed, and a band that beats with it."""
    at = np.arange(count) / RATE
    speed = rng.uniform(*MOTOR)
    hum = sum(
        rng.uniform(0.2, 1) / k**0.7 * np.sin(2 * np.pi * k * speed * at + rng.uniform(0, 6))
        for k in range(1, 40)
    )
    hertz = np.fft.rfftfreq(count, 1 / RATE)
    band = np.exp(-0.5 * ((hertz - rng.uniform(800, 2500)) / 700) ** 2)
    rush = np.fft.irfft(np.fft.rfft(rng.standard_normal(count)) * band, count)
    beaten = rush / rush.std() * (1 + 0.8 * np.sin(2 * np.pi * speed * at))
    return hum / np.std(hum) + 0.7 * beaten


def kept_aside(seed: int, each: int = EACH) -> Iterator[Utterance]:
    """The evaluation set: voices that training has nothing of, quiet and beside a machine.

    Args:
        seed: of voices, words and noise.
        each: utterances of a voice in a noise.
    """
    rng = np.random.default_rng(seed)
    for kind in KINDS:
        for speaker in [voice(kind, rng) for _ in range(KEPT_VOICES)]:
            for name, decibels in NOISES.items():
                for _ in range(each):
                    yield _kept(speaker, (f"{kind} voice", name), decibels, rng)


def _kept(
    speaker: Voice, slices: tuple[str, ...], decibels: float | None, rng: np.random.Generator
) -> Utterance:
    digits = rng.choice(list(DIGITS), rng.integers(1, MOST_DIGITS + 1))
    audio, _ = in_a_row([say(d, speaker, rng) for d in digits], rng)
    if decibels is not None:
        audio = mixed(audio, machine(len(audio), rng), decibels)
    return Utterance(scaled(audio, rng), " ".join(digits), slices)


def write_set(folder: Path, utterances: Iterator[Utterance]) -> Path:
    """Wave files with the JSON lines that `edge-quantize whisper --evaluate` reads."""
    lines = []
    for number, (audio, text, slices, _) in enumerate(utterances):
        name = f"{number:04d}.wav"
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, RATE, 0, "NONE", ""))
            file.writeframes((audio * 32767).round().astype("<i2").tobytes())
        lines.append(json.dumps({"audio": name, "text": text, "slice": list(slices)}))
    path = folder / "kept-aside.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path
