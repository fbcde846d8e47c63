"""Pictures with their values, from a seed: the same seed gives the same bytes."""

from typing import NamedTuple

import numpy as np
from dials import Family, Numbers, draw
from numpy.typing import NDArray
from scenes import CONDITIONS, SIZE, render, view

BATCH = 250  # pictures drawn at once


class Pictures(NamedTuple):
    """Pictures of gauges.

    Attributes:
        images: uint8 [n, SIZE, SIZE], grey.
        values: float32 [n], 0 at the first mark and 1 at the last.
    """

    images: NDArray[np.uint8]
    values: Numbers


def pictures(family: Family, condition: str, count: int, seed: int) -> Pictures:
    """`count` pictures of dials of a family under a condition."""
    rng = np.random.default_rng([seed, CONDITIONS.index(condition)])
    values = rng.uniform(0, 1, count).astype(np.float32)
    images = np.empty((count, SIZE, SIZE), np.uint8)
    for start in range(0, count, BATCH):
        part = slice(start, min(start + BATCH, count))
        size = part.stop - part.start
        dials, seen = draw(family, size, rng), view(size, condition, rng)
        images[part] = render(values[part], dials, seen, rng)
    return Pictures(images, values)


def mixture(family: Family, count: int, seed: int) -> Pictures:
    """Pictures under all conditions: half of them under all at once."""
    single = count // 10
    shares = dict.fromkeys(CONDITIONS[:-1], single)
    shares["everything"] = count - sum(shares.values())
    parts = [pictures(family, condition, size, seed) for condition, size in shares.items()]
    images, values = zip(*parts, strict=True)
    return Pictures(np.concatenate(images), np.concatenate(values))
