"""What a language model is judged by and calibrated with. Pure.

The prompts are made of templates, the same in every run; those of calibration ask other things in
other words than those of evaluation, so that a model is not judged by what it was fitted to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

_COUNTRIES = [
    "France",
    "Germany",
    "Italy",
    "Spain",
    "Japan",
    "Brazil",
    "Canada",
    "Egypt",
    "Kenya",
    "India",
    "Norway",
    "Poland",
    "Greece",
    "Peru",
    "Chile",
    "Mexico",
    "Turkey",
    "Sweden",
    "Ireland",
    "Portugal",
]
_ABOUT_COUNTRIES = (
    "What is the capital of {}?",
    "Name one river in {}.",
    "What language do people speak in {}?",
    "Tell me one fact about {}.",
    "On which continent is {}?",
)
_THINGS = [
    "pump",
    "motor",
    "valve",
    "bearing",
    "sensor",
    "battery",
    "cable",
    "fan",
    "heater",
    "filter",
]
_ABOUT_THINGS = (
    "What does a {} do?",
    "How do I clean a {}?",
    "Why does a {} get hot?",
    "Write a short sentence about a {}.",
    "Give three reasons why a {} may fail.",
)

_TOPICS = [
    "the sea",
    "a garden in winter",
    "trains",
    "bread",
    "bridges",
    "the moon",
    "a lost dog",
    "computers",
    "music",
    "a school day",
    "tea",
    "mountains",
    "an old clock",
    "rain",
    "the city at night",
    "bees",
    "a football match",
    "a library",
    "paint",
    "volcanoes",
    "a letter to a friend",
    "the human heart",
    "glass",
    "markets",
]
_REQUESTS = (
    "Explain {} to a child.",
    "Write a short story about {}.",
    "List what matters most about {}.",
    "Describe {} in a few words, then ask me a question.",
)
_BEGINNINGS = (
    "The history of",
    "In this lesson we will",
    "def main():\n",
    "Once upon a time",
    "The most important",
    "Step 1:",
    "Dear",
    "According to",
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A question, and the kind of question that it is."""

    kind: str
    text: str


def evaluation_prompts() -> list[Prompt]:
    """200 questions of three kinds."""
    return [
        *(Prompt("countries", t.format(c)) for c in _COUNTRIES for t in _ABOUT_COUNTRIES),
        *(Prompt("things", t.format(n)) for n in _THINGS for t in _ABOUT_THINGS),
        *(Prompt("sums", f"What is {a} plus {b}?") for a in range(2, 12) for b in (3, 4, 7, 9, 15)),
    ]


def calibration_prompts() -> Iterator[str]:
    """24 requests for a text."""
    for number, topic in enumerate(_TOPICS):
        yield _REQUESTS[number % len(_REQUESTS)].format(topic)


def calibration_beginnings() -> tuple[str, ...]:
    """Beginnings of texts that are no conversations."""
    return _BEGINNINGS


def perplexity_text() -> str:
    """The text over which perplexity is taken, a story in seven paragraphs."""
    return (resources.files(__package__) / "perplexity.txt").read_text().strip()
