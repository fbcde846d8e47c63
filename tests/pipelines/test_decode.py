"""Payloads of readings to rows."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import BadReading, TooLarge
from agent.pipelines.decode import (
    decode_csv,
    decode_json,
    decode_ndjson,
    decode_number,
    decode_single,
)
from agent.pipelines.encode import encode_columns
from agent.pipelines.names import MAX_NAME, MAX_PAYLOAD, MAX_ROWS, MAX_SENSORS
from agent.types import Rows

NOW = 1_750_000_000.0

names = st.text(
    st.characters(exclude_categories=["C"], exclude_characters="\u2028\u2029"),
    min_size=1,
    max_size=20,
).filter(
    lambda n: n.strip() and n not in {"time", "timestamp", "datetime", "ts", "values", "stream"}
)
values = st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**9), 10**9)
times = st.integers(0, 4_000_000_000)


@st.composite
def tables(draw: st.DrawFn) -> list[dict[str, float | None]]:
    """Rows with a time and the same sensors in each."""
    sensors = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    count = draw(st.integers(1, 6))
    row = st.fixed_dictionaries({"time": times, **dict.fromkeys(sensors, values)})
    return draw(st.lists(row, min_size=count, max_size=count))


def only(tables: list[Rows]) -> Rows:
    assert len(tables) == 1
    return tables[0]


def same(a: Rows, b: Rows) -> bool:
    return (
        (a.stream, a.sensors) == (b.stream, b.sensors)
        and np.array_equal(a.time, b.time)
        and np.array_equal(a.values, b.values, equal_nan=True)
    )


def expected(table: list[dict[str, float | None]]) -> Rows:
    sensors = tuple(key for key in table[0] if key != "time")
    cells = [[math.nan if row[s] is None else float(row[s]) for s in sensors] for row in table]
    time = np.array([float(row["time"] or 0) for row in table])
    return Rows("pump", sensors, time, np.array(cells))


@given(tables())
def test_every_json_form_of_a_table_gives_the_same_rows(
    table: list[dict[str, float | None]],
) -> None:
    wanted = expected(table)
    forms = [
        table,
        {key: [row[key] for row in table] for key in table[0]},
        {
            "time": [r["time"] for r in table],
            "values": {s: [r[s] for r in table] for s in wanted.sensors},
        },
        [{"time": r["time"], "values": {s: r[s] for s in wanted.sensors}} for r in table],
        [{**r, "stream": "pump"} for r in table],
    ]
    for form in forms:
        assert same(only(decode_json(json.dumps(form).encode(), stream="pump", now=NOW)), wanted)


@given(tables())
def test_lines_of_json_give_the_same_rows(table: list[dict[str, float | None]]) -> None:
    payload = "\n".join(json.dumps(row) for row in table).encode()
    assert same(only(decode_ndjson(payload, stream="pump", now=NOW)), expected(table))


@given(tables())
def test_what_encode_writes_comes_back(table: list[dict[str, float | None]]) -> None:
    wanted = expected(table)
    assert same(only(decode_json(encode_columns(wanted), stream=None, now=NOW)), wanted)


@given(tables(), st.sampled_from(",;\t"))
def test_delimited_text_gives_the_same_rows(
    table: list[dict[str, float | None]], sign: str
) -> None:
    plain = [{k if k == "time" else f"s{i}": r[k] for i, k in enumerate(table[0])} for r in table]
    lines = [
        sign.join(plain[0]),
        *(sign.join("" if v is None else repr(v) for v in r.values()) for r in plain),
    ]
    rows = only(decode_csv("\n".join(lines).encode(), stream="pump", now=NOW))
    assert same(rows, expected(plain))


@settings(max_examples=300)
@given(st.binary(max_size=200))
@pytest.mark.parametrize("decode", [decode_json, decode_ndjson, decode_csv])
def test_random_bytes_give_rows_or_a_clear_error(
    decode: Callable[..., list[Rows]], payload: bytes
) -> None:
    try:
        tables = decode(payload, stream="pump", now=NOW)
    except BadReading as error:
        shown = error.message
        assert shown
    else:
        assert all(len(rows) > 0 for rows in tables)


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["time", "ts", "values", "value", "stream", "a", "b", ""]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=500)
@given(json_values)
def test_any_json_gives_finite_rows_or_a_clear_error(value: object) -> None:
    payload = json.dumps(value).encode()
    try:
        tables = decode_json(payload, stream="pump", now=NOW)
    except BadReading:
        return
    for rows in tables:
        assert rows.values.shape == (len(rows.time), len(rows.sensors))
        assert np.isfinite(rows.time).all()
        assert not np.isinf(rows.values).any()


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_random_bytes_of_one_sensor_give_a_number_or_a_clear_error(payload: bytes) -> None:
    try:
        found = decode_single(payload, sensor="flow", now=NOW)
    except BadReading as error:
        shown = error.message
        assert shown
    else:
        assert found is None or not math.isinf(found[1])


@pytest.mark.parametrize(
    ("payload", "where"),
    [
        (b'{"time": 1, "flow": true}', "flow"),
        (b'{"time": 1, "flow": "fast"}', "flow"),
        (b'{"time": 1, "flow": 1e999}', ""),
        (b'{"time": 1, "flow": {"x": 1}}', "flow"),
        (b'{"time": true, "flow": 1}', "time"),
        (b'{"time": "yesterday", "flow": 1}', "time"),
        (b'{"time": -1, "flow": 1}', "time"),
        (b'{"time": 1, "values": 3}', "values"),
        (b'{"time": 1, "stream": 3, "flow": 1}', "stream"),
        (b'[{"time": 1, "flow": 1}, {"time": 2, "flow": false}]', "row 1, flow"),
        (b'[{"time": 1, "flow": 1}, 7]', "row 1"),
        (b'{"time": [1, 2], "flow": [1]}', "flow"),
        (b'{"time": [1, 2], "flow": [1, "x"]}', "row 1, flow"),
        (b'{"time": [1, 2], "flow": 3}', "flow"),
    ],
)
def test_the_wrong_field_is_named(payload: bytes, where: str) -> None:
    with pytest.raises(BadReading) as caught:
        decode_json(payload, stream="pump", now=NOW)
    assert caught.value.where == where


def test_the_wrong_line_is_named() -> None:
    with pytest.raises(BadReading) as caught:
        decode_ndjson(b'{"time":1,"a":1}\n\n{"time":2,"a":"x"}', stream="pump", now=NOW)
    assert caught.value.where == "line 2, a"


def test_the_wrong_cell_is_named() -> None:
    with pytest.raises(BadReading) as caught:
        decode_csv(b"time,flow\n1,2\n2,fast\n", stream="pump", now=NOW)
    assert "flow" in caught.value.where


@pytest.mark.parametrize("payload", [b"{}", b"[]", b"null", b"3", b'"x"', b"[[]]", b'{"time": 1}'])
def test_json_without_a_reading_is_refused(payload: bytes) -> None:
    with pytest.raises(BadReading):
        decode_json(payload, stream="pump", now=NOW)


@pytest.mark.parametrize("depth", [1_000, 200_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    with pytest.raises(BadReading, match=r"nested|JSON|a number"):
        decode_json(b'{"a":' + b"[" * depth + b"]" * depth + b"}", stream="pump", now=NOW)


def test_one_row_without_a_time_is_of_now() -> None:
    assert only(decode_json(b'{"flow": 1}', stream="pump", now=NOW)).time.tolist() == [NOW]
    assert only(decode_csv(b"flow\n1\n", stream="pump", now=NOW)).time.tolist() == [NOW]


@pytest.mark.parametrize(
    "payload", [b'[{"a":1},{"a":2}]', b'[{"a":1,"time":null},{"a":2}]', b'{"a":[1,2]}']
)
def test_several_rows_without_a_time_are_refused(payload: bytes) -> None:
    with pytest.raises(BadReading, match="no time"):
        decode_json(payload, stream="pump", now=NOW)


def test_rows_may_have_different_sensors() -> None:
    payload = b'[{"time": 1, "a": 1}, {"b": 2, "time": "1970-01-01T00:00:02Z"}]'
    rows = only(decode_json(payload, stream="pump", now=NOW))
    assert rows.sensors == ("a", "b")
    assert rows.time.tolist() == [1.0, 2.0]
    assert np.array_equal(rows.values, [[1, np.nan], [np.nan, 2]], equal_nan=True)


def test_one_payload_may_name_several_streams() -> None:
    payload = b'[{"time":1,"stream":"a","x":1},{"time":1,"stream":"b","y":2},{"time":2,"x":3}]'
    tables = {rows.stream: rows.time.tolist() for rows in decode_json(payload, stream="a", now=NOW)}
    assert tables == {"a": [1.0, 2.0], "b": [1.0]}


def test_rows_without_any_stream_are_refused() -> None:
    with pytest.raises(BadReading, match="no stream"):
        decode_json(b'{"flow": 1}', stream=None, now=NOW)


@pytest.mark.parametrize("name", ["", "a+b", "a#", "a//b", "/a", "a\x00", "x" * (MAX_NAME + 1)])
def test_names_that_cannot_be_topics_are_refused(name: str) -> None:
    with pytest.raises(BadReading):
        decode_json(b'{"flow": 1}', stream=name, now=NOW)


def test_sensors_are_bounded() -> None:
    row = {f"s{i}": 1.0 for i in range(MAX_SENSORS)}
    assert (
        len(only(decode_json(json.dumps(row).encode(), stream="p", now=NOW)).sensors) == MAX_SENSORS
    )
    with pytest.raises(BadReading, match=str(MAX_SENSORS)):
        decode_json(json.dumps({**row, "more": 1}).encode(), stream="p", now=NOW)


@pytest.mark.parametrize("name", ["x" * (MAX_NAME + 1), " ", "a\x07"])
def test_names_of_sensors_are_bounded_and_printable(name: str) -> None:
    with pytest.raises(BadReading, match="printable"):
        decode_json(json.dumps({name: 1}).encode(), stream="p", now=NOW)


def test_rows_are_bounded() -> None:
    columns = {"time": list(range(MAX_ROWS + 1)), "a": [1] * (MAX_ROWS + 1)}
    with pytest.raises(TooLarge, match=str(MAX_ROWS)):
        decode_json(json.dumps(columns).encode(), stream="p", now=NOW)


def test_bytes_are_bounded() -> None:
    with pytest.raises(TooLarge, match="bytes"):
        decode_json(b" " * (MAX_PAYLOAD + 1), stream="p", now=NOW)


@pytest.mark.parametrize(
    "payload", [b"21.5", b" 21.5\n", b'{"value": 21.5}', b' {"value":21.5,"unit":"C"}']
)
def test_one_sensor_sends_a_number_or_an_object(payload: bytes) -> None:
    assert decode_single(payload, sensor="t", now=NOW) == (NOW, 21.5)


def test_one_sensor_may_send_its_time() -> None:
    assert decode_single(b'{"value": 1, "ts": 1700000000000}', sensor="t", now=NOW) == (1.7e9, 1.0)


@pytest.mark.parametrize("payload", [b'{"flow": 1}', b'[{"flow": 1}]'])
def test_rows_are_left_to_the_reader_of_rows(payload: bytes) -> None:
    assert decode_single(payload, sensor="t", now=NOW) is None


@pytest.mark.parametrize("payload", [b"inf", b"on", b"", b"9" * 100, b"\xff\xfe"])
def test_what_is_not_a_finite_number_is_refused(payload: bytes) -> None:
    with pytest.raises(BadReading):
        decode_number(payload)


def test_nan_says_that_there_is_no_reading() -> None:
    assert math.isnan(decode_number(b"nan"))
