"""Batches: what goes in comes out, in order, within the bounds."""

import contextlib
import os

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadPayload, TooLarge
from agent.store.account import MAX_PAYLOAD, Queued
from agent.sync.batches import FEWEST, MAX_BATCH, MOST, batchable, pack, unpack, within
from agent.types import Message


def row(seq: int, payload: bytes, left_s: float | None = None) -> Queued:
    return Queued(seq, Message(f"m-{seq}", "telemetry", "t", payload, 0.0), left_s)


LINES = st.lists(
    st.binary(max_size=50).filter(lambda p: b"\n" not in p), min_size=FEWEST, max_size=60
)


@given(LINES)
def test_what_goes_in_comes_out_in_order(payloads):
    batch, count = pack([row(n, payload) for n, payload in enumerate(payloads)])
    assert count == len(payloads)
    assert unpack(batch) == payloads


def test_a_batch_that_would_be_too_large_takes_fewer_rows():
    rows = [row(n, os.urandom(9000).hex().encode()) for n in range(30)]
    batch, count = pack(rows)
    assert FEWEST <= count < 30
    assert len(batch) <= MAX_PAYLOAD
    assert unpack(batch) == [r.message.payload for r in rows[:count]]
    assert pack(rows, limit=1000) == (b"", 0)


def test_no_batch_has_more_rows_than_a_receiver_expects():
    assert pack([row(n, b"{}") for n in range(MOST + 5)])[1] == MOST


def test_rows_are_taken_up_to_a_size_before_compression():
    rows = [row(n, bytes(9)) for n in range(10)]
    assert len(within(rows, 50)) == 5
    assert within(rows, 9) == []


def test_a_row_with_a_lifetime_or_a_line_break_travels_alone():
    assert batchable(row(1, b"{}"))
    assert not batchable(row(1, b"{}", 60.0))
    assert not batchable(row(1, b"{\n}"))


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"id": 1}', b"\xff\x00"])
def test_what_is_no_batch_is_itself(payload):
    assert unpack(payload) == [payload]


def test_a_batch_that_would_fill_the_memory_is_refused():
    """A few kilobytes that unpack to a gigabyte."""
    with pytest.raises(TooLarge):
        unpack(zstandard.compress(bytes(MAX_BATCH + 1)))
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100 << 20))
    with pytest.raises((TooLarge, BadPayload)):
        unpack(unsized)


@pytest.mark.parametrize("cut", [4, 8, -1])
def test_a_batch_cut_short_is_refused(cut):
    with pytest.raises((TooLarge, BadPayload)):
        unpack(zstandard.compress(b"{}\n" * 1000)[:cut])


@given(st.binary(max_size=200))
def test_rubbish_that_begins_as_a_batch_is_refused_or_taken(tail):
    with contextlib.suppress(TooLarge, BadPayload):
        unpack(b"\x28\xb5\x2f\xfd" + tail)
