"""Lines of standard input."""

import math
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadReading
from agent.pipelines.sources.lines import MAX_LINE, LineDecoder
from agent.pipelines.sources.stdin import read_rows
from agent.types import Rows

NOW = 1_750_000_000.0


def fed(text: bytes) -> tuple[list[Rows], list[BadReading]]:
    """What comes out of a pipe into which `text` is written."""
    reader, writer = os.pipe()

    def write() -> None:
        with os.fdopen(writer, "wb") as file:
            file.write(text)

    thread = threading.Thread(target=write)
    thread.start()
    refused: list[BadReading] = []
    try:
        tables = read_rows(reader, "pump", wall=lambda: NOW, refused=refused.append)
        return list(tables), refused
    finally:
        thread.join()
        os.close(reader)


def flat(tables: list[Rows]) -> list[tuple[float, list[float]]]:
    """Time and values of each row, however the pipe cut them."""
    return [
        (time, row)
        for rows in tables
        for time, row in zip(rows.time.tolist(), rows.values.tolist(), strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        b'{"time": 1, "value": 2.5}\n{"time": 2, "value": 3.5}\n',
        b"time,value\n1,2.5\n2,3.5\n",
        b"time;value\r\n1;2,5\r\n2;3,5",
    ],
)
def test_json_and_delimited_text_line_by_line(text: bytes) -> None:
    tables, refused = fed(text)
    assert not refused
    assert flat(tables) == [(1.0, [2.5]), (2.0, [3.5])]


def test_plain_numbers_are_of_now() -> None:
    tables, refused = fed(b"21.5\n\n22\nnan\n")
    assert not refused
    assert {rows.sensors for rows in tables} == {("value",)}
    (first, second, third) = flat(tables)
    assert (first, second) == ((NOW, [21.5]), (NOW, [22.0]))
    assert math.isnan(third[1][0])


def test_a_line_that_is_not_understood_does_not_end_the_input() -> None:
    tables, refused = fed(
        b'{"time": 1, "a": 1}\nrubbish\n{"time": 2, "a": "x"}\n{"time": 3, "a": 3}\n'
    )
    assert flat(tables) == [(1.0, [1.0]), (3.0, [3.0])]
    assert [error.where for error in refused] == ["line 2", "line 3, a"]


def test_a_line_without_an_end_is_refused_at_its_bound() -> None:
    tables, refused = fed(b'{"a": ' + b"1" * (5 * MAX_LINE) + b'}\n{"time": 1, "a": 1}\n')
    assert flat(tables) == [(1.0, [1.0])]
    assert any("characters" in error.message for error in refused)


def test_a_header_alone_gives_nothing() -> None:
    assert fed(b"time,flow\n") == ([], [])


@given(st.lists(st.text(max_size=20), max_size=6))
def test_any_lines_give_rows_or_a_clear_error(lines: list[str]) -> None:
    decoder = LineDecoder("pump")
    for line in lines:
        try:
            tables = decoder.feed(line, NOW)
        except BadReading as error:
            shown = error.where
            assert shown.startswith("line ")
        else:
            assert all(len(rows) for rows in tables)


def test_lines_that_come_together_go_together() -> None:
    tables, _ = fed(b"".join(b'{"time": %d, "a": 1}\n' % t for t in range(100)))
    assert sum(len(rows) for rows in tables) == 100
    assert len(tables) < 100
