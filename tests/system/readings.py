"""Readings of a small made-up machine, the same in every run."""

from collections.abc import Iterator

import numpy as np

START = 1_700_000_000

Row = dict[str, float]


def healthy(count: int, start: int = 0) -> list[Row]:
    """Rows of a machine that is well, one a second."""
    return list(_rows(start, count, 0.0))


def shaken(start: int, count: int) -> list[Row]:
    """Rows of the same machine with a vibration far beyond what it ever showed."""
    return list(_rows(start, count, 40.0))


def _rows(start: int, count: int, push: float) -> Iterator[Row]:
    for n in range(start, start + count):
        noise = np.random.default_rng(n).normal(size=4)
        yield {
            "time": float(START + n),
            "current": round(4.0 + 0.1 * noise[0], 4),
            "pressure": round(2.0 + 0.05 * noise[1], 4),
            "vibration": round(0.5 + 0.02 * noise[2] + 0.02 * push, 4),
            "flow": round(30.0 + 0.5 * noise[3], 4),
        }
