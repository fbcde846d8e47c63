"""Windows of made-up machines, as the device would see them: through a baseline learned on each."""

import numpy as np
from numpy.typing import NDArray
from signals import HEALTHY_ROWS, ROWS, Machine, machine

from agent.pipelines.sources.simulator import Episode, simulate
from agent.tasks.anomaly import AnomalySettings
from agent.tasks.anomaly.baseline import CHANNELS, Baseline, Views
from agent.tasks.anomaly.pace import BLOCK_ROWS
from agent.tasks.anomaly.windows import Shape, compress, cut

FOLLOW_ROWS = AnomalySettings().follow_rows


def pump(seed: int) -> Machine:
    """A simulated pump with one fault, as a machine of the same form."""
    random = np.random.default_rng(10_000_000 + seed)
    fault = ("cavitation", "closing valve", "bearing wear")[seed % 3]
    begin = int(random.integers(500, 700))
    begin += 64 * int(random.integers(0, 10))
    episode = Episode(fault, begin, begin + 350, float(random.uniform(0.5, 1.2)), 0.6)
    values = simulate(ROWS, seed=seed, episodes=[episode]).rows.values
    healthy = simulate(ROWS, seed=seed).rows.values
    spread = values[:HEALTHY_ROWS].std(axis=0) + 1e-9
    return Machine(values, np.abs(values - healthy) > 1.0 * spread, fault)


def windows(
    found: Machine, shape: Shape, random: np.random.Generator, every: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Windows [n, 3, points] of single sensors; whether the machine, and the sensor, is faulty [n, 2]."""
    views_of = _as_followed(found, shape)
    ends = np.arange(HEALTHY_ROWS, len(found.values), every) + int(random.integers(every))
    ends = ends[ends < len(found.values)]
    every_window = cut(compress(views_of), shape)
    x = every_window[ends - shape.rows + 1]
    sensor = found.affected[ends]
    anywhere = np.broadcast_to(sensor.any(axis=1, keepdims=True), sensor.shape)
    y = np.stack((anywhere, sensor), axis=-1)
    return (
        x.reshape(-1, CHANNELS, shape.points).astype(np.float32),
        y.reshape(-1, 2).astype(np.float32),
    )


def _as_followed(found: Machine, shape: Shape) -> NDArray[np.float64]:
    """The views of all rows, the baseline following healthy blocks as it does on a device.

    Without the allowance for wandering: a network that has seen drift and was told that it is healthy
    stays calm where the allowance on the device turns out too small.
    """
    baseline = Baseline.learn(found.values[:HEALTHY_ROWS], shape.smooth)
    baseline.wander = [0.0] * len(baseline.wander)
    views = Views(baseline, shape.smooth)
    means = views.means(found.values)
    faulty = found.affected.any(axis=1)[shape.smooth - 1 :]
    begin = HEALTHY_ROWS - shape.smooth + 1
    parts = [views.of(means[:begin])]
    for at in range(begin, len(means), BLOCK_ROWS):
        block = means[at : at + BLOCK_ROWS]
        parts.append(views.of(block))
        healthy = not faulty[at : at + BLOCK_ROWS].any()
        views.follow(block, BLOCK_ROWS / FOLLOW_ROWS if healthy else 0.0, healthy=healthy)
    return np.concatenate(parts)


def dataset(
    seeds: range, pumps: range, shape: Shape, *, every: int = 29
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """All windows of many machines."""
    random = np.random.default_rng(seeds.start)
    parts = [windows(machine(seed), shape, random, every) for seed in seeds]
    parts += [windows(pump(seed), shape, random, every) for seed in pumps]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
