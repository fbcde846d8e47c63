"""What is lost, what is allowed, and which of two models is faster."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadRequest
from tools.quantize.auto import Limit, loss, parse_limit, size_class, slower
from tools.quantize.family import Score
from tools.quantize.report import Figures

NUMBERS = st.floats(0, 1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("text", "limit"),
    [("1%", Limit(0.01, True)), ("0.01", Limit(0.01, False)), (".5 %", Limit(0.005, True)),
     ("0", Limit(0.0, False))],
)  # fmt: skip
def test_limits_are_shares_or_amounts(text: str, limit: Limit) -> None:
    assert parse_limit(text) == limit


@given(st.text())
def test_any_text_is_a_limit_or_a_bad_request(text: str) -> None:
    try:
        limit = parse_limit(text)
    except BadRequest:
        return
    assert limit.amount >= 0


def accuracy(value: float, part: str = "all") -> Score:
    return Score("accuracy", value, part, 100)


def test_exactly_the_limit_is_allowed_and_more_is_not() -> None:
    limit = parse_limit("1%")
    assert loss([accuracy(0.9)], [accuracy(0.891)], limit) == ""
    assert "accuracy" in loss([accuracy(0.9)], [accuracy(0.8909)], limit)


def test_an_error_that_grows_is_a_loss() -> None:
    before, after = (Score("error", value, higher_is_better=False) for value in (1.0, 1.2))
    assert loss([before], [after], parse_limit("10%"))
    assert not loss([after], [before], parse_limit("0"))


def test_a_loss_on_one_slice_is_judged_where_it_is_asked_for() -> None:
    before = [accuracy(0.9), accuracy(0.9, "day"), accuracy(0.9, "night")]
    after = [accuracy(0.895), accuracy(0.95, "day"), accuracy(0.7, "night")]
    assert loss(before, after, parse_limit("1%")) == ""
    assert "night" in loss(before, after, parse_limit("1%"), parse_limit("5%"))


def test_a_value_that_is_no_number_has_lost_everything() -> None:
    assert loss([accuracy(0.9)], [accuracy(math.nan)], parse_limit("99%"))


def test_without_a_limit_nothing_is_lost() -> None:
    assert loss([accuracy(0.9)], [accuracy(0.1)], None) == ""


@given(NUMBERS, NUMBERS)
def test_the_faster_of_two_is_never_called_slower(one: float, other: float) -> None:
    fast, slow = sorted((one, other))
    assert slower(Figures(1, p50_ms=slow), Figures(1, p50_ms=fast)) == ""


def test_a_model_slower_than_the_noise_of_a_machine_is_called_so() -> None:
    assert slower(Figures(1, p50_ms=1.0), Figures(1, p50_ms=1.04)) == ""
    assert "slower" in slower(Figures(1, p50_ms=1.0), Figures(1, p50_ms=1.06))


def test_sizes_that_differ_by_a_header_are_one_class() -> None:
    assert size_class(1_000_000) == size_class(1_000_300)
    assert size_class(1_000_000) < size_class(1_100_000)
