"""Bodies of readings by their content type. Pure."""

from collections.abc import Callable, Mapping

from agent.errors import BadPayload
from agent.pipelines.decode import decode_csv, decode_json, decode_ndjson
from agent.types import Rows

Decode = Callable[..., list[Rows]]

DECODERS: Mapping[str, Decode] = {
    "application/json": decode_json,
    "application/x-ndjson": decode_ndjson,
    "application/ndjson": decode_ndjson,
    "text/csv": decode_csv,
}


def decode_readings(
    body: bytes, content_type: str, *, stream: str | None, now: float
) -> list[Rows]:
    """Rows of a body.

    Args:
        body: the readings.
        content_type: of the body, parameters allowed; empty for JSON.
        stream: of rows that name none.
        now: time of rows that have none, seconds since the epoch.

    Raises:
        BadPayload: there is no such format.
        BadReading, TooLarge: as the decoder says.
    """
    kind = content_type.partition(";")[0].strip().lower() or "application/json"
    # What curl --data sends when it is not told otherwise; nobody posts a form of readings.
    if kind == "application/x-www-form-urlencoded":
        kind = "application/json"
    decode = DECODERS.get(kind)
    if decode is None:
        raise BadPayload(
            f"readings cannot be {kind[:60]}",
            where="Content-Type",
            hint=f"Use {', '.join(DECODERS)}",
        )
    return decode(body, stream=stream, now=now)
