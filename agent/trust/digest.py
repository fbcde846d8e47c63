"""SHA-256 of bytes, and of files while they are read."""

import hashlib
import io
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

CHUNK_BYTES = 4 << 20
PARALLEL_FROM_BYTES = 2 * CHUNK_BYTES  # below this, a thread costs more than it saves
MAX_WAITING = 2  # chunks read and not hashed yet; waiting for each at once would hide nothing


def sha256_hex(data: bytes | memoryview) -> str:
    """The SHA-256 digest, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def read_hashed(file: BinaryIO, size: int) -> tuple[bytes, str]:
    """Read a file into memory, once, and hash the very bytes that are returned.

    Large files are hashed by a second thread while they are read, which hides most of the cost.

    Args:
        file: at its beginning.
        size: bytes that it should have; a longer one is read one chunk further and no more, which
            is enough for the digest to be wrong.

    Returns:
        The bytes and their digest.

    Raises:
        OSError: the file cannot be read.
    """
    if size < PARALLEL_FROM_BYTES:
        data = file.read(size + 1)
        return data, sha256_hex(data)
    digest, data_out = hashlib.sha256(), io.BytesIO()
    waiting: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, "sha256") as hasher:
        while data_out.tell() <= size and (chunk := file.read(CHUNK_BYTES)):
            if len(waiting) == MAX_WAITING:
                waiting.popleft().result()
            waiting.append(hasher.submit(digest.update, chunk))
            data_out.write(chunk)
    return data_out.getvalue(), digest.hexdigest()  # getvalue hands its buffer over, uncopied
