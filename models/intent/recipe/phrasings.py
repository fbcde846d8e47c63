"""Questions from templates: alternatives, politeness, typing mistakes and casing, from a seed."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

OUTSIDE = "outside"
HERE = Path(__file__).resolve().parent

BEFORE = ("please", "excuse me,", "hello,", "hi", "sorry,", "could you tell me", "um", "hey")
AFTER = ("please", "thank you", "thanks", "mate", "if possible")


class Phrase(NamedTuple):
    """A line of a file: a label, and a template or a whole question."""

    label: str
    text: str


def lines(name: str) -> list[Phrase]:
    """The phrases of a file beside this one."""
    found = (HERE / name).read_text("utf-8").splitlines()
    pairs = [line.partition(": ") for line in found if line and not line.startswith("#")]
    return [Phrase(label, text) for label, _, text in pairs]


def said(
    templates: Sequence[Phrase], count: int, seed: int, *, disturbed: float = 0.5
) -> Iterator[Phrase]:
    """Count questions of each template, a share of them with typing mistakes or courtesies."""
    rng = np.random.default_rng(seed)
    for template in templates:
        for _ in range(count):
            text = " ".join(
                re.sub(r"\{([^}]*)\}", lambda m: _one(rng, m[1]), template.text).split()
            )
            yield Phrase(template.label, disturb(text, rng) if rng.random() < disturbed else text)


def disturb(text: str, rng: np.random.Generator) -> str:
    """As people type: courtesies, a slip of the finger, capitals, question marks."""
    if rng.random() < 0.3:
        text = f"{rng.choice(BEFORE)} {text}"
    if rng.random() < 0.15:
        text = f"{text} {rng.choice(AFTER)}"
    if rng.random() < 0.4:
        text = _slip(text, rng)
    if rng.random() < 0.1:
        text = text.upper()
    return text + ("?" if rng.random() < 0.4 else "")


def noise(words: Sequence[str], count: int, seed: int) -> Iterator[Phrase]:
    """What means nothing: words that stand together by chance, keys that were hit, sums."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        made = (_words, _words, _keys, _sum)[number % 4](rng, words)
        yield Phrase(OUTSIDE, made)


def _words(rng: np.random.Generator, words: Sequence[str]) -> str:
    return " ".join(rng.choice(words, rng.integers(1, 9)))


def _keys(rng: np.random.Generator, words: Sequence[str]) -> str:  # noqa: ARG001
    keys = list("abcdefghijklmnopqrstuvwxyz0123456789.,;:!?-/()")
    some = keys[: rng.integers(3, len(keys))] if rng.random() < 0.5 else keys[-20:]
    return " ".join(
        "".join(rng.choice(some, rng.integers(1, 12))) for _ in range(rng.integers(1, 4))
    )


def _sum(rng: np.random.Generator, words: Sequence[str]) -> str:  # noqa: ARG001
    signs = ("+", "-", "*", "/", "x", "=", "plus", "minus", "times", "divided by", "percent of")
    parts = [str(rng.integers(10 ** rng.integers(1, 5)))]
    for _ in range(rng.integers(1, 4)):
        parts += [str(rng.choice(signs)), str(rng.integers(10 ** rng.integers(1, 4)))]
    return " ".join(parts)


def _one(rng: np.random.Generator, alternatives: str) -> str:
    options = alternatives.split("|")
    return options[rng.integers(len(options))]


def _slip(text: str, rng: np.random.Generator) -> str:
    """One letter left out, doubled, swapped with the next, or another."""
    at = int(rng.integers(len(text)))
    letter = "abcdefghijklmnopqrstuvwxyz"[rng.integers(26)]
    swapped = text[at + 1 : at + 2] + text[at]
    middle = (("", 1), (text[at] * 2, 1), (swapped, 2), (letter, 1))[rng.integers(4)]
    return text[:at] + middle[0] + text[at + middle[1] :]
