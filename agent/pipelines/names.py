"""Names of streams and sensors, and how many a table may have. Pure.

A stream's name becomes levels of an MQTT topic and a label of metrics, so it may hold neither
wildcards nor control characters nor empty levels.
"""

import re
from collections.abc import Sequence

from agent.errors import BadReading, TooLarge

#: Characters of a stream's or a sensor's name.
MAX_NAME = 128
#: Sensors of one stream.
MAX_SENSORS = 256
#: Rows of one payload.
MAX_ROWS = 100_000
#: Bytes of one payload.
MAX_PAYLOAD = 16 * 1024 * 1024

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NOT_IN_STREAM = re.compile(r"[+#\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_stream(name: str) -> str:
    """The name itself.

    Raises:
        BadReading: empty, too long, or not usable as levels of a topic.
    """
    if not name or len(name) > MAX_NAME:
        raise BadReading(f"a stream's name has 1 to {MAX_NAME} characters", where=name[:40])
    if _NOT_IN_STREAM.search(name):
        raise BadReading("a stream's name holds no +, # or control characters", where=repr(name))
    if "" in name.split("/"):
        raise BadReading("a stream's name has an empty level", where=repr(name))
    return name


def check_sensors(names: Sequence[str]) -> tuple[str, ...]:
    """The names as a tuple.

    Raises:
        BadReading: none at all, too many, or one that is empty, too long or unprintable.
    """
    if not names:
        raise BadReading("the row holds no sensor", hint='Send {"time": …, "flow": 1.5}')
    if len(names) > MAX_SENSORS:
        raise BadReading(f"{len(names)} sensors, at most {MAX_SENSORS} fit one stream")
    for name in names:
        if not name.strip() or len(name) > MAX_NAME or _CONTROL.search(name):
            raise BadReading(
                f"a sensor's name has 1 to {MAX_NAME} printable characters", where=repr(name[:40])
            )
    return tuple(names)


def check_size(payload: bytes) -> None:
    """Raises TooLarge when the payload has more than MAX_PAYLOAD bytes."""
    if len(payload) > MAX_PAYLOAD:
        raise TooLarge(
            f"{len(payload)} bytes of readings, at most {MAX_PAYLOAD} at a time",
            hint="Send them in parts",
        )


def check_rows(count: int) -> None:
    """Raises TooLarge when there are more than MAX_ROWS rows."""
    if count > MAX_ROWS:
        raise TooLarge(f"{count} rows, at most {MAX_ROWS} at a time", hint="Send them in parts")
