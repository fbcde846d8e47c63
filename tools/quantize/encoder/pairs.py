"""Sentence pairs whose similarities are compared: seeded, of the project's own templates. Pure."""

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple

PAIRS = 500

_THINGS = (
    "the pump", "the boiler", "a pressure gauge", "the conveyor belt", "my order", "the ticket office",
    "the night train", "a cup of coffee", "the museum", "the router", "a library book", "the harvest",
)  # fmt: skip
_PLACES = (
    "in the cellar",
    "at platform four",
    "near the river",
    "on the second floor",
    "in Lisbon",
)
_TEMPLATES: Mapping[str, Sequence[str]] = {
    "questions": (
        "Where can I find {thing} {place}?",
        "How late is {thing} available {place}?",
        "Who do I ask about {thing}?",
        "Why does {thing} {place} not work today?",
    ),
    "reports": (
        "{thing} {place} makes an unusual noise",
        "Since this morning {thing} {place} has been out of order",
        "Everything is fine with {thing} {place}",
        "{thing} was replaced two weeks ago",
    ),
    "requests": (
        "Please switch off {thing} {place}",
        "Book {thing} for tomorrow afternoon",
        "Cancel everything that concerns {thing}",
        "Tell me more about {thing} {place}",
    ),
    "long": (
        (
            "When we arrived {place} late in the evening, {thing} was the first that we noticed, and "
            "nobody who stood around could say for how long it had been there or whom it belonged to"
        ),
        (
            "The manual says that {thing} should be inspected twice a year by a trained person, but the "
            "records that were kept {place} show that this has been done only once since it was bought"
        ),
    ),
}


class Pair(NamedTuple):
    """Two sentences, and the slice that they belong to."""

    first: str
    second: str
    slice: str


def pairs(count: int = PAIRS, seed: int = 0) -> list[Pair]:
    """Pairs from near to far: the same sentence about two things, two about one, and strangers."""
    chosen = random.Random(seed)  # noqa: S311 (sentences, not secrets)
    kinds = sorted(_TEMPLATES)
    return [_pair(chosen, kinds[number % len(kinds)], number) for number in range(count)]


def _pair(chosen: random.Random, kind: str, number: int) -> Pair:
    template, thing, place = _drawn(chosen, kind)
    other_template, other_thing, other_place = _drawn(chosen, kind)
    near = number // len(_TEMPLATES) % 3
    second = (
        _said(template, other_thing, place),
        _said(other_template, thing, other_place),
        _said(other_template, other_thing, other_place),
    )[near]
    return Pair(_said(template, thing, place), second, kind)


def _drawn(chosen: random.Random, kind: str) -> tuple[str, str, str]:
    return chosen.choice(_TEMPLATES[kind]), chosen.choice(_THINGS), chosen.choice(_PLACES)


def _said(template: str, thing: str, place: str) -> str:
    said = template.format(thing=thing, place=place)
    return said[0].upper() + said[1:]
