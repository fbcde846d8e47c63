"""Cutting files where their content says, and the lists that name the pieces."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import Altered
from agent.trust import chunks
from agent.trust.chunks import Entry, cut, decode_list, encode_list, messages
from agent.trust.digest import sha256_hex

RELEASED = Path(__file__).parents[1] / "formats" / "chunks" / "1.json"


def noise(size: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(size)


def pieces(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in cut(memoryview(data))]


contents = st.one_of(
    st.binary(max_size=2000),
    st.builds(noise, st.integers(0, 600_000), st.integers(0, 99)),
    st.builds(lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.integers(0, 400_000)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(contents)
def test_the_chunks_are_the_file_and_keep_to_the_sizes(data: bytes) -> None:
    found = pieces(data)
    assert b"".join(found) == data
    assert all(len(piece) <= chunks.MAX_BYTES for piece in found)
    assert all(len(piece) >= chunks.MIN_BYTES for piece in found[:-1])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3_000_000), st.binary(min_size=1, max_size=50_000))
def test_an_insertion_changes_the_chunks_around_it_and_no_others(at: int, insert: bytes) -> None:
    before = noise(3_000_000)
    known = set(pieces(before))
    changed = [p for p in pieces(before[:at] + insert + before[at:]) if p not in known]
    assert sum(map(len, changed)) <= len(insert) + 6 * chunks.MAX_BYTES


def test_the_block_in_which_it_is_hashed_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    data = noise(700_000)
    whole = pieces(data)
    monkeypatch.setattr(chunks, "_BLOCK_BYTES", 1000)
    assert pieces(data) == whole


def test_the_boundaries_are_those_of_the_first_release() -> None:
    """Devices find what they have by cutting it where a publisher of any release cut it."""
    released = json.loads(RELEASED.read_text())
    data = b"".join(sha256_hex(str(n).encode()).encode() for n in range(released["blocks"]))
    assert [end for _, end in cut(memoryview(data))] == released["ends"]
    assert sha256_hex(dict_of(data)[sha256_hex(data)]) == released["list"]


def dict_of(data: bytes) -> dict[str, bytes]:
    return dict(messages(memoryview(data)))


def test_what_names_others_comes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where lists are in lists, as for a file of many gigabytes."""
    monkeypatch.setattr(chunks, "MAX_ENTRIES", 3)
    data = noise(1_500_000)
    seen: set[str] = set()
    for sha256, payload in messages(memoryview(data)):
        if sha256_hex(payload) != sha256:
            assert {entry.sha256 for entry in decode_list(payload, "")} <= seen
        seen.add(sha256)
    assert sha256 == sha256_hex(data)


def test_a_small_file_is_its_own_message() -> None:
    assert dict_of(b"small") == {sha256_hex(b"small"): b"small"}


def test_no_message_is_larger_than_a_cloud_broker_takes() -> None:
    entries = [Entry(sha256_hex(b"x"), 2**40)] * chunks.MAX_ENTRIES
    assert len(encode_list(entries)) <= chunks.MAX_BYTES
    assert decode_list(encode_list(entries), "") == tuple(entries)


@given(st.lists(st.tuples(st.binary(min_size=32, max_size=32), st.integers(1, 2**50)), min_size=1))
def test_a_list_comes_back_as_it_went(parts: list[tuple[bytes, int]]) -> None:
    entries = tuple(Entry(digest.hex(), size) for digest, size in parts)
    assert decode_list(encode_list(entries), "") == entries


@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_refused(data: bytes) -> None:
    for payload in (data, encode_list([]) + data):
        try:
            entries = decode_list(payload, "here", 1000)
        except Altered:
            continue
        assert sum(entry.size for entry in entries) == 1000


@pytest.mark.parametrize(
    "payload",
    [
        encode_list([]),
        encode_list([Entry("00" * 32, 0)]),
        encode_list([Entry("00" * 32, 5)])[:-1],
        encode_list([Entry("00" * 32, 1)] * (chunks.MAX_ENTRIES + 1)),
    ],
    ids=["empty", "an empty part", "cut", "too long"],
)
def test_a_malformed_list_is_refused(payload: bytes) -> None:
    with pytest.raises(Altered):
        decode_list(payload, "here")


def test_every_boundary_is_inside_the_file() -> None:
    ends = [0, *(end for _, end in cut(memoryview(noise(500_000))))]
    assert all(a < b for a, b in pairwise(ends))
