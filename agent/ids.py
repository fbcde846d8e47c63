"""Identifiers: those that sort by the time they were made, and the short form of keys' for people."""

import os
import threading
from collections.abc import Sequence

from agent.clock import Clock

KEY_DIGITS = 8  # of a signing key's id, in what people read and in file names

_COUNTER_BITS = 12
_RANDOM_BITS = 62
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62


class _Ticks:
    """The last millisecond and counter used, by any thread of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = 0

    def next(self, wanted: int) -> int:
        with self._lock:
            self._last = max(wanted, self._last + 1)
            return self._last


_ticks = _Ticks()


def uuid7(clock: Clock) -> str:
    """A version 7 UUID (RFC 9562), larger than every one this process made before.

    The 12 bits after the millisecond count up within it (section 6.2, method 1), so that order holds
    for identifiers of the same millisecond and when the clock steps back. The other 62 bits are
    random, so that two processes, or two runs, do not meet.
    """
    tick = _ticks.next(int(clock.wall() * 1000) << _COUNTER_BITS)
    random = int.from_bytes(os.urandom(8), "big") >> (64 - _RANDOM_BITS)
    millisecond, counter = tick >> _COUNTER_BITS, tick & ((1 << _COUNTER_BITS) - 1)
    return _text((millisecond << 80) | _VERSION | (counter << 64) | _VARIANT | random)


def short_key(keyid: str) -> str:
    """A signing key's id as people meet it everywhere: its first digits. Scripts get the whole."""
    return keyid[:KEY_DIGITS]


def key_names(keyids: Sequence[str]) -> str:
    """Signing keys in a sentence, for example ``key 1a73a0a2``."""
    return f"key{'s' if len(keyids) > 1 else ''} {', '.join(map(short_key, keyids))}"


def _text(value: int) -> str:
    digits = f"{value & ((1 << 128) - 1):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
