"""Which readings came before: a source that got no acknowledgement sends the same again. Pure.

After a crash a broker sends everything again that was in flight, and a client of the socket its last
request. Their effect may be on the disk already. Times alone cannot tell this from a clock that was
set back, so the last payloads are remembered by a digest of their content.
"""

from collections import deque
from collections.abc import Iterable
from hashlib import blake2b

from agent.pipelines.entries import Single
from agent.types import Rows

#: Payloads remembered for each stream; more than a broker keeps in flight to one client.
REMEMBERED = 512
_SIZE = 8  # bytes of a digest; two of REMEMBERED differing payloads meet once in 10^16


def digest(item: Rows | Single) -> bytes:
    """Of the names, times and values in it."""
    return _digest_single(item) if isinstance(item, Single) else _digest_rows(item)


class Seen:
    """The last digests of a stream, oldest forgotten first."""

    def __init__(self, state: bytes = b"") -> None:
        self._order = deque(
            (state[i : i + _SIZE] for i in range(0, len(state) - _SIZE + 1, _SIZE)), REMEMBERED
        )
        self._known = set(self._order)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._known

    def add(self, digests: Iterable[bytes]) -> None:
        """Remember payloads that took effect."""
        for digest in digests:
            if digest in self._known:
                continue
            if len(self._order) == REMEMBERED:
                self._known.discard(self._order[0])
            self._order.append(digest)
            self._known.add(digest)

    def state(self) -> bytes:
        """Everything that a new `Seen` needs."""
        return b"".join(self._order)


def _digest_rows(rows: Rows) -> bytes:
    found = blake2b("\0".join(rows.sensors).encode(), digest_size=_SIZE)
    found.update(rows.time.tobytes())
    found.update(rows.values.tobytes())
    return found.digest()


def _digest_single(single: Single) -> bytes:
    text = f"{single.sensor}\0{single.time!r}\0{single.value!r}"
    return blake2b(text.encode(), digest_size=_SIZE).digest()
