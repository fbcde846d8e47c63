"""Personal data does not leave in text; what only looks like it does."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadConfig
from agent.guard.redact import Redaction, is_card, is_iban

REDACTION = Redaction()


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to ann.lee+x@mail.example.org!", "write to [email]!"),
        ("an umlaut: jörg@bücher.example", "an umlaut: [email]"),
        ("call +44 20 7946 0958 now", "call [phone] now"),
        ("call 0049 (30) 901820", "call [phone]"),
        ("call 030/901820-14", "call [phone]"),
        ("call (555) 555-0134 please", "call [phone] please"),
        ("card 4111 1111 1111 1111, thanks", "card [card], thanks"),
        ("card 4111-1111-1111-1111", "card [card]"),
        ("378282246310005", "[card]"),
        ("table 12 4111 1111 1111 1111", "table 12 [card]"),
        ("my IBAN DE89 3704 0044 0532 0130 00 please", "my IBAN [iban] please"),
        ("gb82west12345698765432", "[iban]"),
        ("two: DE89370400440532013000 GB82WEST12345698765432", "two: [iban] [iban]"),
    ],
)
def test_personal_data_is_replaced_by_its_kind(text, redacted):
    assert REDACTION.text(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "Which platform does the train at 9:15 leave from?",
        "order 4111 1111 1111 1112",  # the check digit is wrong
        "DE00 3704 1044 1532 1130 11 is no account",
        "pressure 0.123456789 bar at 2026-03-01T10:00:00Z",
        "on 01-02-2026 at gate 12",
        "1700000000.25",
        "rows 1 2 3 4 5 6 7 8 9",
    ],
)
def test_what_is_none_stays(text):
    assert REDACTION.text(text) == text


def test_named_fields_go_whole_and_texts_at_any_depth_are_searched():
    found = REDACTION.value(
        {"Name": "Ann", "note": ["mail a@b.example", {"deep": "+44 20 7946 0958"}], "n": 3,
         "card": 4111111111111111, "a@b.example": None}
    )  # fmt: skip
    assert found == {
        "Name": "[redacted]", "note": ["mail [email]", {"deep": "[phone]"}], "n": 3,
        "card": "[card]", "[email]": None,
    }  # fmt: skip


def test_what_is_nested_too_deep_to_be_searched_is_replaced():
    value = "a@b.example"
    for _ in range(100):
        value = [value]
    assert "a@b.example" not in str(REDACTION.value(value))


def test_patterns_of_the_operator_are_applied():
    redaction = Redaction(patterns=(r"\bPAT-\d+",))
    assert redaction.text("patient PAT-4711 waits") == "patient [redacted] waits"


def test_a_kind_left_out_is_not_looked_for():
    assert Redaction(kinds=("card",)).text("a@b.example") == "a@b.example"


@pytest.mark.parametrize("wrong", [{"kinds": ("face",)}, {"patterns": ("(",)}])
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(BadConfig):
        Redaction(**wrong)


@given(st.text(alphabet="0123456789", min_size=12, max_size=18))
def test_every_number_has_one_check_digit(digits):
    number = "4" + digits
    assert sum(is_card(number[:-1] + str(d)) for d in range(10)) == 1


@given(st.text(alphabet="ABCDEFGHIJ0123456789", min_size=11, max_size=30))
def test_an_account_number_with_its_check_digits_is_found_wherever_it_stands(account):
    number = int("".join(str(int(c, 36)) for c in account + "DE00"))
    code = f"DE{98 - number % 97:02}{account}"
    assert is_iban(code)
    assert code not in REDACTION.text(f"pay {code}.")


@given(st.text(alphabet="a1 .@-+()0", max_size=400))
def test_any_text_comes_through(text):
    REDACTION.text(text)


@pytest.mark.parametrize(
    "part",
    ["a", "a@", "1", "1 ", "+1", "0 ", "AB12", "AB12 ", "a.", "@a.", "-", "(0", "00 ", "4 1"],
)
def test_no_text_takes_long(part):
    """A text made to keep the patterns busy: time grows with its length and not with its square."""
    text = (part * 65_536)[:65_536]
    began = time.process_time()
    REDACTION.text(text)
    assert time.process_time() - began < 5.0
