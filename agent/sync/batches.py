"""Several messages of a topic as one: a line each, compressed by Zstandard (RFC 8878). Pure.

While a device catches up after an outage, hundreds of summaries of one stream wait; one of them looks
much like the next. A receiver tells a batch by its content type and encoding (MQTT 5), or by its first
four bytes, which no JSON text begins with.
"""

from collections.abc import Sequence

from agent.errors import BadPayload, TooLarge
from agent.store.account import MAX_PAYLOAD, Queued

MAGIC = b"\x28\xb5\x2f\xfd"
CONTENT_TYPE = "application/x-ndjson"
ENCODING = "zstd"
FEWEST = 8  # messages that are worth a batch
MOST = 1000  # messages in one
MAX_BATCH = 8 << 20  # bytes of a batch when it is unpacked
LEVEL = 3  # of compression; more takes several times as long for a tenth


def batchable(row: Queued) -> bool:
    """Whether a row may travel with others: text in one line, of no lifetime of its own."""
    return row.left_s is None and b"\n" not in row.message.payload


def within(rows: Sequence[Queued], limit: int) -> list[Queued]:
    """The first rows that together take no more than so many bytes."""
    found, size = [], 0
    for row in rows:
        size += len(row.message.payload) + 1
        if size > limit:
            break
        found.append(row)
    return found


def pack(rows: Sequence[Queued], limit: int = MAX_PAYLOAD) -> tuple[bytes, int]:
    """As many of the rows as fit, from the first on, as one payload.

    Args:
        rows: of one topic, in order, each `batchable`.
        limit: bytes of the payload.

    Returns:
        The payload and how many rows are in it; 0 when not even `FEWEST` fit.
    """
    import zstandard

    compressor = zstandard.ZstdCompressor(level=LEVEL)
    count = min(len(rows), MOST)
    while count >= FEWEST:
        lines = b"\n".join(row.message.payload for row in rows[:count])
        payload = compressor.compress(lines)
        if len(payload) <= limit:
            return payload, count
        count = count * limit // (len(payload) + 1)
    return b"", 0


def unpack(payload: bytes) -> list[bytes]:
    """The messages in a payload: those of a batch, or the payload itself when it is none.

    Raises:
        BadPayload: it begins as a batch does and is none.
        TooLarge: it would unpack to more than 8 MiB.
    """
    if not payload.startswith(MAGIC):
        return [payload]
    import zstandard

    try:
        size = zstandard.frame_content_size(payload)
        if not 0 <= size <= MAX_BATCH:
            raise TooLarge(f"a batch unpacks to at most {MAX_BATCH} bytes")
        lines = zstandard.ZstdDecompressor().decompress(payload, max_output_size=MAX_BATCH)
    except zstandard.ZstdError as error:
        raise BadPayload(f"not a batch: {error}") from None
    return lines.split(b"\n")
