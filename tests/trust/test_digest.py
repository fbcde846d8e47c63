"""The bytes that are hashed are the bytes that are returned, whichever way they are read."""

import hashlib
import os
from pathlib import Path

import pytest

from agent.trust.digest import CHUNK_BYTES, PARALLEL_FROM_BYTES, read_hashed


@pytest.mark.parametrize(
    "size",
    [0, 1, PARALLEL_FROM_BYTES - 1, PARALLEL_FROM_BYTES, PARALLEL_FROM_BYTES + CHUNK_BYTES // 2],
)
def test_bytes_and_digest_belong_together(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(data := os.urandom(size))
    with path.open("rb", buffering=0) as file:
        found, digest = read_hashed(file, size)
    assert type(found) is bytes
    assert found == data
    assert digest == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("size", [10, PARALLEL_FROM_BYTES])
def test_a_file_that_grew_is_not_read_to_its_end(tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(size + 5 * CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        found, digest = read_hashed(file, size)
    assert len(found) == size + 1
    assert digest != hashlib.sha256(bytes(size)).hexdigest()


@pytest.mark.parametrize("left", [0, 1000, PARALLEL_FROM_BYTES + 1])
def test_a_truncated_file_takes_the_memory_of_what_is_left(tmp_path: Path, left: int) -> None:
    """Signed as a terabyte: what is there decides."""
    path = tmp_path / "file"
    path.write_bytes(data := os.urandom(left))
    with path.open("rb", buffering=0) as file:
        found, digest = read_hashed(file, 2**40)
    assert found == data
    assert digest == hashlib.sha256(data).hexdigest()
