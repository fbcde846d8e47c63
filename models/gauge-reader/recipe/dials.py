"""What a dial looks like, drawn at random: the families that are trained on, and one kept aside.

A dial is a row of numbers, one for each property; `draw` makes many rows at once. Lengths are in
radii of the dial, angles in radians clockwise from straight up, brightness from 0 (black) to 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float32]
Dials = Mapping[str, Numbers]

TAPERED, BAR, ARROW, SPADE = range(4)  # needles


@dataclass(frozen=True)
class Family:
    """Designs that belong together.

    Attributes:
        needles: shapes of the needle.
        sweep: from the first mark to the last, degrees: intervals, one of which is taken.
        majors: numbers of intervals between long marks.
        minors: numbers of intervals between short marks, within one of those.
        arc: how often the marks stand on an arc.
        zone: how often a part of the scale is shaded.
        dark: how often the face is darker than its marks.
    """

    needles: tuple[int, ...]
    sweep: tuple[tuple[float, float], ...]
    majors: tuple[int, ...]
    minors: tuple[int, ...]
    arc: float
    zone: float
    dark: float


#: What the model is trained on.
TRAINED = Family(
    needles=(TAPERED, BAR, ARROW),
    sweep=((175, 215), (240, 262), (264, 275), (285, 305)),
    majors=(4, 5, 6, 8, 10, 12),
    minors=(1, 2, 4, 5),
    arc=0.5,
    zone=0.35,
    dark=0.3,
)

#: What it is measured on: another needle, sweeps and divisions that no trained dial has.
KEPT_ASIDE = Family(
    needles=(SPADE,),
    sweep=((218, 238), (276, 284)),
    majors=(7, 9),
    minors=(3,),
    arc=0.5,
    zone=0.5,
    dark=0.4,
)


def draw(family: Family, count: int, rng: np.random.Generator) -> dict[str, Numbers]:
    """Properties of `count` dials of a family, each float32 [count, 1, 1]."""

    def between(low: float, high: float) -> Numbers:
        return rng.uniform(low, high, count)

    def often(share: float) -> Numbers:
        return (rng.random(count) < share).astype(float)

    low, high = np.array(family.sweep)[rng.integers(len(family.sweep), size=count)].T
    sweep = np.deg2rad(rng.uniform(low, high))
    dark = often(family.dark)
    face = np.where(dark, between(0.05, 0.3), between(0.7, 1.0))
    ink = np.where(dark, between(0.7, 1.0), between(0.0, 0.25))
    needle_ink = np.where(often(0.3), np.where(dark, between(0.5, 0.7), between(0.3, 0.45)), ink)
    outer = between(0.82, 0.94)
    dials = {
        "sweep": sweep,
        # Half a turn starts at the left or anywhere near; a wider sweep leaves its gap below.
        "start": -sweep / 2 + np.deg2rad(rng.normal(0, 3, count)),
        "majors": rng.choice(family.majors, count),
        "minors": rng.choice(family.minors, count),
        "face": face,
        "ink": ink,
        "rim": np.where(often(0.5), between(0.0, 0.3), between(0.4, 0.9)),
        "rim_width": between(0.03, 0.14),
        "outer": outer,
        "major_length": between(0.1, 0.2),
        "minor_length": between(0.04, 0.1),
        "major_width": between(0.02, 0.05),
        "minor_width": between(0.01, 0.025),
        "arc": often(family.arc),
        "zone": often(family.zone),
        "zone_from": between(0.55, 0.9),
        "zone_ink": np.where(dark, between(0.35, 0.6), between(0.4, 0.65)),
        "numerals": often(0.8),
        "numeral_width": between(0.05, 0.1),
        "numeral_height": between(0.04, 0.07),
        "label": often(0.6),
        "label_y": between(0.25, 0.55),
        "label_width": between(0.1, 0.3),
        "needle": rng.choice(family.needles, count),
        "needle_ink": needle_ink,
        "needle_length": outer - between(0.0, 0.22),
        "needle_width": between(0.025, 0.06),
        "tail": between(0.0, 0.3),
        "hub": between(0.05, 0.16),
        "hub_ink": np.where(often(0.6), needle_ink, between(0.2, 0.8)),
    }
    return {name: numbers.astype(np.float32)[:, None, None] for name, numbers in dials.items()}
