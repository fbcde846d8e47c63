"""Instants as people and machines write them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import rfc3339
from agent.errors import BadReading
from agent.pipelines.instants import from_any, from_number, from_numbers, from_text

#: 1983 to 2286: no unit of one such instant can be taken for another.
seconds = st.integers(410_000_000, 9_990_000_000)


@given(seconds)
def test_every_unit_of_one_instant_reads_the_same(t: int) -> None:
    read = [from_number(t * unit) for unit in (1, 1e3, 1e6, 1e9)]
    assert read == pytest.approx([t] * 4, abs=1e-5)


@given(seconds, st.integers(0, 999))
def test_rfc3339_comes_back_to_the_millisecond(t: int, ms: int) -> None:
    assert from_text(rfc3339(t + ms / 1000)) == pytest.approx(t + ms / 1000, abs=1.1e-3)


@pytest.mark.parametrize(
    "text",
    [
        "2020-03-09 10:14:33",
        "2020-03-09T10:14:33Z",
        "2020-03-09T11:14:33+01:00",
        "20200309T101433",
        "09.03.2020 10:14:33",
        "2020/03/09 10:14:33",
        "1583748873",
        "1583748873000",
        " 2020-03-09 10:14:33 ",
    ],
)
def test_forms_of_one_instant(text: str) -> None:
    assert from_text(text) == 1583748873.0


@pytest.mark.parametrize("text", ["", "soon", "03/09/2020 10:14", "-1", "nan", "inf", "1e30"])
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(BadReading):
        from_text(text)


@pytest.mark.parametrize("value", [None, True, [], {}, 10**400, -5])
def test_json_values_that_are_no_instants_are_refused(value: object) -> None:
    with pytest.raises(BadReading):
        from_any(value)


def test_a_column_may_mix_units() -> None:
    mixed = from_numbers(np.array([1.7e9, 1.7e12, 1.7e15]))
    assert mixed.tolist() == [1.7e9, 1.7e9, 1.7e9]


def test_a_column_names_its_first_wrong_instant() -> None:
    with pytest.raises(BadReading, match="-3 is not a time"):
        from_numbers(np.array([1.0, -3.0, -4.0]))


def test_an_instant_outside_the_calendar_is_shown_as_the_epoch() -> None:
    assert rfc3339(1e18) == rfc3339(float("nan")) == "1970-01-01T00:00:00.000Z"
