"""A key's line in a TOML text, for error messages."""

from hypothesis import given
from hypothesis import strategies as st

from agent.config.lines import locate

TEXT = """\
# a comment = 1
[device]
id = "a"

[[source]]
broker = "one"
[[source]]
# broker = "no"
broker = "two"
  "topics" = []
[sync]
tls.ca = "x"
"""


def test_finds_a_key_in_a_table() -> None:
    assert locate(TEXT, ("device", "id")) == 3


def test_counts_arrays_of_tables_and_skips_comments() -> None:
    assert locate(TEXT, ("source", 0, "broker")) == 6
    assert locate(TEXT, ("source", 1, "broker")) == 9


def test_finds_quoted_indented_and_dotted_keys() -> None:
    assert locate(TEXT, ("source", 1, "topics")) == 10
    assert locate(TEXT, ("sync", "tls", "ca")) == 12


def test_finds_a_table_inside_an_element_of_an_array() -> None:
    text = "[[source]]\n[source.link]\na = 1\n[[source]]\n[source.link]\na = 2\n"
    assert locate(text, ("source", 0, "link", "a")) == 3
    assert locate(text, ("source", 1, "link", "a")) == 6


def test_falls_back_to_the_nearest_table() -> None:
    assert locate(TEXT, ("source", 1, "missing")) == 7
    assert locate(TEXT, ("nothing", "here")) is None


@given(st.text(max_size=300), st.lists(st.text(max_size=5) | st.integers(0, 3), max_size=4))
def test_never_fails_whatever_the_text(text: str, path: list[str | int]) -> None:
    line = locate(text, tuple(path))
    assert line is None or 1 <= line <= len(text.splitlines())
