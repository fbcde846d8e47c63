"""A stop text is found however the answer is cut, and never shown."""

from hypothesis import given
from hypothesis import strategies as st

from agent.engines.stops import Stops

LETTERS = st.text("ab<", max_size=30)


@given(st.lists(LETTERS, max_size=12), st.lists(st.text("ab<", min_size=1, max_size=4), max_size=3))
def test_pieces_give_what_the_whole_text_gives(pieces: list[str], texts: list[str]) -> None:
    stops = Stops(texts)
    shown = ""
    for piece in pieces:
        shown += stops.feed(piece)
        if stops.hit:
            break
    else:
        shown += stops.rest()
    whole = "".join(pieces)
    places = [place for place in map(whole.find, texts) if place >= 0]
    if not places:
        assert (shown, stops.hit) == (whole, False)
    else:
        assert stops.hit
        assert not any(text in shown for text in texts)
        assert whole.startswith(shown)


def test_text_that_begins_no_stop_is_shown_at_once() -> None:
    stops = Stops(["\n\n"])
    assert stops.feed("hello") == "hello"
    assert stops.feed("x\n") == "x"
    assert stops.feed("y") == "\ny"


def test_an_empty_stop_text_is_none() -> None:
    stops = Stops(["", ""])
    assert stops.feed("abc") == "abc"
    assert not stops.hit
