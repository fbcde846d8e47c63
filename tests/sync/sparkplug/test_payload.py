"""The payload, against the protobuf definition of the Eclipse Tahu project."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sparkplub_b_packets.core import sparkplug_b_pb2 as tahu

from agent.errors import BadPayload
from agent.sync.sparkplug.payload import (
    MAX_BYTES,
    MAX_METRICS,
    DataType,
    Metric,
    booleans,
    encode,
)

FIELDS = {
    DataType.INT64: "long_value",
    DataType.UINT64: "long_value",
    DataType.DATETIME: "long_value",
    DataType.DOUBLE: "double_value",
    DataType.BOOLEAN: "boolean_value",
    DataType.STRING: "string_value",
}

times = st.integers(0, 2**53)
values = st.one_of(
    st.tuples(st.just(DataType.UINT64), st.integers(0, 2**64 - 1)),
    st.tuples(st.just(DataType.DATETIME), times),
    st.tuples(st.just(DataType.DOUBLE), st.floats(allow_nan=False)),
    st.tuples(st.just(DataType.BOOLEAN), st.booleans()),
    st.tuples(st.just(DataType.STRING), st.text()),
    st.tuples(st.sampled_from(DataType), st.none()),
)


@st.composite
def metrics(draw) -> Metric:
    kind, value = draw(values)
    return Metric(draw(st.text()), kind, value, draw(times), draw(st.booleans()))


@given(st.lists(metrics(), max_size=20), times, st.integers(0, 255), st.text())
def test_what_is_written_is_what_tahu_reads(written, timestamp, seq, uuid):
    read = tahu.Payload.FromString(encode(written, timestamp=timestamp, seq=seq, uuid=uuid))
    assert (read.timestamp, read.seq, read.uuid) == (timestamp, seq, uuid)
    for mine, theirs in zip(written, read.metrics, strict=True):
        assert (theirs.name, theirs.timestamp, theirs.datatype) == (
            mine.name,
            mine.timestamp,
            mine.type,
        )
        assert theirs.is_historical == mine.historical
        assert theirs.is_null == (mine.value is None)
        if mine.value is not None:
            assert getattr(theirs, FIELDS[mine.type]) == mine.value


def test_a_death_has_no_sequence_number():
    read = tahu.Payload.FromString(encode([], timestamp=1, seq=None))
    assert not read.HasField("seq")


@given(st.dictionaries(st.text(), st.booleans()))
def test_commands_are_read_as_tahu_writes_them(wanted):
    payload = tahu.Payload(timestamp=1, seq=3)
    for name, value in wanted.items():
        payload.metrics.add(name=name, datatype=11, boolean_value=value, timestamp=7)
        payload.metrics.add(name=f"{name} as a number", datatype=10, double_value=1.5)
    assert booleans(payload.SerializeToString()) == wanted


@given(st.binary(max_size=300))
def test_whatever_arrives_is_read_or_refused(payload):
    with suppress(BadPayload):
        booleans(payload)


def test_a_payload_over_the_bounds_is_refused():
    with pytest.raises(BadPayload):
        booleans(bytes(MAX_BYTES + 1))
    payload = tahu.Payload()
    for number in range(MAX_METRICS + 1):
        payload.metrics.add(name=str(number), boolean_value=True)
    with pytest.raises(BadPayload):
        booleans(payload.SerializeToString())
