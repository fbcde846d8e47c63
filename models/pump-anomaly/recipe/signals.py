"""Machines that never were: sensors with shared causes, normal behaviour of many kinds, and faults.

Training on one machine teaches that machine. Here each seed is another one: a few hidden causes
(load, temperature, supply) drive several sensors through random gains, each sensor adds memory,
noise, drift, outliers and a resolution of its own. Then something breaks in one of seven ways.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

HEALTHY_ROWS = 400
ROWS = 1800

FAULTS = ("shift", "ramp", "noise", "oscillation", "stuck", "decoupled", "cause")


@dataclass(frozen=True)
class Machine:
    """A recording of a made-up machine.

    Attributes:
        values: float64 [n, k].
        affected: bool [n, k], where a sensor shows the fault.
        fault: its kind; empty for a machine that stays healthy.
    """

    values: Floats
    affected: NDArray[np.bool_]
    fault: str


def machine(seed: int) -> Machine:
    """The machine of a seed; one in four stays healthy."""
    random = np.random.default_rng(seed)
    k = int(random.integers(2, 12))
    causes = _causes(random)
    gains = random.normal(0, 1, (causes.shape[1], k)) * (random.random((causes.shape[1], k)) < 0.6)
    own = np.column_stack([_own(random) for _ in range(k)])
    clean = causes @ gains + own
    affected = np.zeros(clean.shape, bool)
    fault = "" if random.random() < 0.25 else str(random.choice(FAULTS))
    if fault:
        clean = _break(random, fault, clean, causes, gains, affected)
    return Machine(_measured(random, clean), affected, fault)


def _ar(random: np.random.Generator, memory: float, rows: int = ROWS) -> Floats:
    keep = np.exp(-1.0 / max(memory, 1e-3))
    steps = random.standard_normal(rows) * np.sqrt(1 - keep**2)
    steps[0] = random.standard_normal()
    out = np.empty(rows)
    value = 0.0
    for i, step in enumerate(steps):
        value = keep * value + step
        out[i] = value
    return out


def _causes(random: np.random.Generator) -> Floats:
    columns = []
    for _ in range(int(random.integers(1, 4))):
        kind = random.random()
        if kind < 0.5:
            columns.append(_ar(random, 10 ** random.uniform(0.3, 2.2)))
        elif kind < 0.75:  # a machine that switches between loads
            level = np.repeat(random.integers(0, 3, ROWS), int(random.integers(8, 60)))[:ROWS]
            columns.append(level + 0.1 * random.standard_normal(ROWS))
        else:
            period = 10 ** random.uniform(0.8, 2.0)
            phase = random.uniform(0, 2 * np.pi)
            columns.append(np.sin(2 * np.pi * np.arange(ROWS) / period + phase))
    return np.column_stack(columns)


def _own(random: np.random.Generator) -> Floats:
    """What a sensor does by itself: noise, memory, slow drift, rare outliers."""
    own = random.uniform(0.2, 1.0) * random.standard_normal(ROWS)
    if random.random() < 0.5:
        own += random.uniform(0.2, 1.0) * _ar(random, 10 ** random.uniform(0.3, 1.8))
    kind = random.random()
    if kind < 0.2:  # a walk without an end
        own += random.uniform(0.3, 2.0) * np.cumsum(random.standard_normal(ROWS)) / np.sqrt(ROWS)
    elif kind < 0.4:  # warming up
        own += random.uniform(0.3, 4.0) * (1 - np.exp(-np.arange(ROWS) / random.uniform(100, 900)))
    if random.random() < 0.2:
        spikes = random.random(ROWS) < 0.01
        own[spikes] += random.normal(0, 5, int(spikes.sum()))
    return own


def _break(
    random: np.random.Generator,
    fault: str,
    clean: Floats,
    causes: Floats,
    gains: Floats,
    affected: NDArray[np.bool_],
) -> Floats:
    n, k = clean.shape
    begin = int(random.integers(HEALTHY_ROWS + 60, ROWS - 250))
    end = n if random.random() < 0.5 else int(random.integers(begin + 120, n))
    here = slice(begin, end)
    spread = clean[:HEALTHY_ROWS].std(axis=0) + 1e-9
    depth = np.zeros(n)
    ramp = 1 if fault == "shift" else int(random.integers(2, 150))
    depth[here] = np.minimum(1.0, np.arange(1, end - begin + 1) / ramp)
    some = random.permutation(k)[: int(random.integers(1, max(2, k // 2 + 1)))]
    size = 10 ** random.uniform(-0.1, 0.9) * random.choice([-1, 1], k)
    broken = clean.copy()
    if fault == "cause":
        j = int(random.integers(causes.shape[1]))
        moved = gains[j] * 10 ** random.uniform(0.2, 0.8) * random.choice([-1, 1])
        broken += np.outer(depth, moved)
        affected[:] = np.abs(np.outer(depth, moved)) > 0.7 * spread
        return broken
    for c in some:
        if fault in ("shift", "ramp"):
            broken[:, c] += depth * size[c] * spread[c]
            affected[:, c] = np.abs(depth * size[c]) > 0.7
            continue
        if fault == "noise":
            extra = abs(size[c]) * random.standard_normal(n)
            broken[:, c] += depth * extra * spread[c]
        elif fault == "oscillation":
            wave = np.sin(2 * np.pi * np.arange(n) / 10 ** random.uniform(0.7, 1.6))
            broken[:, c] += depth * wave * abs(size[c]) * spread[c]
        elif fault == "stuck":
            broken[here, c] = broken[begin, c] + (random.random() < 0.3) * size[c] * spread[c]
        else:  # decoupled: the same values, at another time
            broken[here, c] = clean[:HEALTHY_ROWS, c][random.integers(HEALTHY_ROWS)] + (
                spread[c] * _ar(random, 30.0, end - begin)
            )
        affected[:, c] = depth > 0.3
    return broken


def _measured(random: np.random.Generator, clean: Floats) -> Floats:
    """Units, offsets and resolutions of real instruments."""
    k = clean.shape[1]
    values = clean * 10 ** random.uniform(-2, 2, k) + 10 ** random.uniform(-1, 3, k)
    coarse = random.random(k) < 0.25
    step = values[:HEALTHY_ROWS].std(axis=0) * random.uniform(0.1, 0.8, k) + 1e-12
    return np.where(coarse, np.round(values / step) * step, values)
