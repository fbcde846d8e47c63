"""What counts as a wrong word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.quantize.whisper.words import errors, words

SAID = st.lists(st.sampled_from("abc"), max_size=8)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("It’s 7 o'clock.", ["it's", "7", "o'clock"]),
        ("Straße ÉTÉ e\u0301te\u0301", ["strasse", "été", "été"]),
        ("泵 в доме", ["泵", "в", "доме"]),
        ("… — !", []),
        ("snake_case", ["snake", "case"]),
    ],
)
def test_case_and_marks_are_no_words(text: str, found: list[str]) -> None:
    assert words(text) == found


@pytest.mark.parametrize(
    ("wanted", "found", "count"),
    [
        ("one two three", "one two three", 0),
        ("one two three", "one three", 1),
        ("one two three", "one two two three", 1),
        ("one two three", "four", 3),
        ("one", "", 1),
        ("", "one two", 2),
    ],
)
def test_fewest_changes_are_counted(wanted: str, found: str, count: int) -> None:
    assert errors(wanted.split(), found.split()) == count


@given(SAID, SAID, SAID)
def test_word_errors_are_a_distance(a: list[str], b: list[str], c: list[str]) -> None:
    assert (errors(a, b) == 0) == (a == b)
    assert errors(a, b) == errors(b, a)
    assert errors(a, c) <= errors(a, b) + errors(b, c)
    assert abs(len(a) - len(b)) <= errors(a, b) <= max(len(a), len(b))
