"""Delimited text to a table of readings."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadRecording
from agent.pipelines.names import MAX_NAME, MAX_SENSORS
from agent.pipelines.tables import MAX_LINE, Choices, Layout, Slice, TableReader


def layout(text: str, **choices: object) -> Layout:
    return TableReader(text.splitlines(), Choices(**choices)).layout  # type: ignore[arg-type]


def whole(text: str, **choices: object) -> Slice:
    reader = TableReader(text.splitlines(), Choices(**choices))  # type: ignore[arg-type]
    return next(reader.slices(10_000))


@pytest.mark.parametrize("sign", [",", ";", "\t"])
def test_the_delimiter_is_guessed(sign: str) -> None:
    table = whole(f"time{sign}flow{sign}load\n1{sign}2{sign}3\n")
    assert (table.sensors, table.values.tolist()) == (("flow", "load"), [[2.0, 3.0]])


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("flow;Timestamp", "1;2020-03-09 10:14:33"),
        ("flow;DateTime", "1;09.03.2020 10:14:33"),
        ("flow;when", "1;2020-03-09T10:14:33Z"),
        ("Date;Time;flow", "2020-03-09;10:14:33;1"),
        ("flow;epoch", "1;1583748873"),
    ],
)
def test_the_time_column_is_guessed(header: str, row: str) -> None:
    table = whole(f"{header}\n{row}\n")
    assert table.time.tolist() == [1583748873.0]
    assert table.sensors == ("flow",)


def test_the_time_column_can_be_named() -> None:
    table = whole("time,t2,flow\n1,100,5\n", time="t2")
    assert (table.time.tolist(), table.sensors) == ([100.0], ("time", "flow"))


def test_rows_may_come_at_an_interval() -> None:
    reader = TableReader("flow\n1\n2\n3\n".splitlines(), Choices(interval_s=0.5), start=100.0)
    assert [time for piece in reader.slices(2) for time in piece.time] == [100.0, 100.5, 101.0]


@pytest.mark.parametrize("name", ["anomaly", "Changepoint", "is_anomaly", "LABEL", "ground_truth"])
def test_labels_are_kept_apart(name: str) -> None:
    table = whole(f"time,flow,{name}\n1,2,1\n")
    assert table.sensors == ("flow",)
    assert table.labels[name].tolist() == [1.0]


def test_labels_can_be_named() -> None:
    table = whole("time,flow,broken\n1,2,1\n", labels=("broken",))
    assert (table.sensors, list(table.labels)) == (("flow",), ["broken"])


def test_columns_of_text_are_left_out_and_reported() -> None:
    found = layout("time,flow,operator,anomaly,label\n1,2,Anna,0,good\n")
    assert [name for _, name in found.sensors] == ["flow"]
    assert [name for _, name in found.labels] == ["anomaly"]
    assert found.left_out == ("operator", "label")


def test_a_column_of_row_numbers_without_a_name_is_left_out() -> None:
    assert layout(",time,flow\n0,1,2\n").left_out == ("(column 1)",)


def test_the_decimal_comma_is_recognised() -> None:
    table = whole("time;flow;load\n1;2,5;-1,5e3\n2;3;4\n")
    assert table.values.tolist() == [[2.5, -1500.0], [3.0, 4.0]]


@pytest.mark.parametrize("text", ["", "NA", "n/a", "NaN", "null", "-"])
def test_empty_cells_are_no_readings(text: str) -> None:
    assert math.isnan(whole(f"time;flow;load\n1;{text};3\n").values[0, 0])


def test_quoted_cells_and_a_byte_order_mark() -> None:
    table = whole('\ufeff"time","flow, mean"\n"1","2"\n')
    assert table.sensors == ("flow, mean",)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1"),
        ("1,2,3\n4,5,6\n", "line 1"),
        ("flow,load\n1,2\n", "line 1"),
        ("time,flow,flow\n1,2,3\n", "'flow'"),
        ("time,flow\n1,2\n2\n", "line 3"),
        ("time,flow\n1,2\n\nsoon,3\n", "line 4"),
        ("time,name\n1,x\n", "name"),
        ("time,flow\n1,inf\n", "line 2"),
        ("time," + "x" * (MAX_NAME + 1) + "\n1,2\n", "line 1"),
        ("time,flow\n1," + "2" * (MAX_LINE + 1), "line 2"),
        ("time,flow\n1,\x00\n", "line 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, where: str) -> None:
    with pytest.raises(BadRecording) as caught:
        whole(text)
    assert where in caught.value.where


def test_text_in_a_column_of_numbers_is_refused_with_its_line() -> None:
    rows = "".join(f"{i},{i}\n" for i in range(1, 400))
    with pytest.raises(BadRecording) as caught:
        whole(f"time,flow\n{rows}400,broken\n")
    assert caught.value.where == "line 401, column 'flow'"


def test_sensors_are_bounded() -> None:
    names = [f"s{i}" for i in range(MAX_SENSORS + 1)]
    with pytest.raises(BadRecording, match=str(MAX_SENSORS)):
        whole("time," + ",".join(names) + "\n1," + ",".join("1" for _ in names))


@pytest.mark.parametrize("choices", [{"time": "when"}, {"labels": ("broken",)}])
def test_a_column_that_is_named_and_absent_is_refused(choices: dict[str, object]) -> None:
    with pytest.raises(BadRecording, match="no such column"):
        layout("time,flow\n1,2\n", **choices)


@given(st.lists(st.text(max_size=30), max_size=8))
def test_any_text_gives_numbers_or_a_clear_error(lines: list[str]) -> None:
    try:
        table = next(TableReader(lines, Choices()).slices(100), None)
    except BadRecording as error:
        table = None
        shown = str(error)
        assert shown
    if table is not None:
        assert np.isfinite(table.time).all()
        assert not np.isinf(table.values).any()
