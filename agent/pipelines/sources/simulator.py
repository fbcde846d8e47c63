"""A water pump that can fail, for demonstrations, training and tests. NumPy only, seeded.

A centrifugal pump (about 7.5 kW, 38 m3/h at 3.1 bar) on the mains draws from a tank and delivers
through a valve. Speed and demand set flow and head on the pump's curve; shaft power sets the motor's current; losses
heat motor and bearing with their own time constants; vibration grows with speed, cavitation and
wear. Three faults grow slowly, as they do in life:

- ``cavitation``: the inlet starves; vibration rises and scatters, flow and head fall and flutter;
- ``closing valve``: the delivery valve closes unnoticed; flow falls, outlet pressure rises, the
  motor draws less;
- ``bearing wear``: vibration rises first, then the bearing's temperature, then the current a little.

The relations are those of any pump handbook (affinity laws, quadratic head curve, first-order
heating); the numbers are plausible, not those of one make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

Fault = Literal["cavitation", "closing valve", "bearing wear"]

#: Sensor -> unit, in the order of the columns.
SENSORS: Mapping[str, str] = {
    "motor_current": "A",
    "vibration": "mm/s",
    "inlet_pressure": "bar",
    "outlet_pressure": "bar",
    "flow": "m3/h",
    "motor_temperature": "degC",
    "bearing_temperature": "degC",
    "fluid_temperature": "degC",
}

RATED_HEAD = 3.1  # bar across the pump at rated flow
SHUT_HEAD = 4.2  # bar across the pump at no flow
RATED_FLOW = 38.0  # m3/h
RATED_CURRENT = 14.2  # A
STATIC_HEAD = 0.9  # bar of the delivery column, to be overcome at any flow

_NOISE = np.array([0.06, 0.09, 0.012, 0.02, 0.22, 0.20, 0.20, 0.15])


@dataclass(frozen=True, slots=True)
class Episode:
    """A fault that begins, grows and is mended.

    Attributes:
        fault: its name.
        start: first row that is not normal.
        end: first row that is normal again.
        severity: 1.0 is what an engineer would stop the pump for; reached after `ramp` of the episode.
        ramp: share of the episode during which the fault grows.
    """

    fault: Fault
    start: int
    end: int
    severity: float = 1.0
    ramp: float = 0.6


@dataclass(frozen=True, slots=True)
class Simulation:
    """A recording of the simulated pump.

    Attributes:
        rows: n rows of the eight sensors.
        labels: int8 [n], 1 where a fault is present.
        episodes: the faults, in order.
    """

    rows: Rows
    labels: "NDArray[np.int8]"
    episodes: tuple[Episode, ...]


def simulate(
    rows: int,
    *,
    seed: int,
    episodes: Sequence[Episode] = (),
    start: float = 0.0,
    period_s: float = 1.0,
    stream: str = "pump-1",
) -> Simulation:
    """Run the pump.

    Args:
        rows: how many rows to make.
        seed: the same seed gives the same recording.
        episodes: faults; they may not overlap.
        start: time of the first row, seconds since the epoch.
        period_s: seconds between rows.
        stream: name of the stream.
    """
    random = np.random.default_rng(seed)
    depth = {
        fault: _depth(rows, fault, episodes)
        for fault in ("cavitation", "closing valve", "bearing wear")
    }
    values = _measure(_physics(rows, random, depth, period_s), random, depth)
    labels = np.zeros(rows, np.int8)
    for episode in episodes:
        labels[episode.start : episode.end] = 1
    time = start + period_s * np.arange(rows, dtype=np.float64)
    return Simulation(Rows(stream, tuple(SENSORS), time, values), labels, tuple(episodes))


def showcase(seed: int = 1, *, start: float = 0.0, stream: str = "pump-1") -> Simulation:
    """A recording with a healthy past and each of the three faults once, an hour and a half in all."""
    random = np.random.default_rng(seed)
    begins = np.array([1000, 2500, 4000]) + random.integers(0, 120, 3)
    faults: tuple[Fault, ...] = ("cavitation", "closing valve", "bearing wear")
    episodes = [Episode(f, int(b), int(b) + 420) for f, b in zip(faults, begins, strict=True)]
    return simulate(5400, seed=seed, episodes=episodes, start=start, stream=stream)


def _depth(rows: int, fault: str, episodes: Sequence[Episode]) -> "NDArray[np.float64]":
    """How far a fault has grown in each row, 0 to its severity."""
    depth = np.zeros(rows)
    for episode in episodes:
        if episode.fault == fault:
            length = max(1, episode.end - episode.start)
            growth = np.arange(1, length + 1) / max(1.0, episode.ramp * length)
            part = episode.severity * np.minimum(1.0, growth)
            depth[episode.start : episode.end] = part[: max(0, rows - episode.start)]
    return depth


def _physics(
    rows: int,
    random: np.random.Generator,
    depth: "Mapping[str, NDArray[np.float64]]",
    period_s: float,
) -> "NDArray[np.float64]":
    """True values of the eight sensors [rows, 8], before noise."""
    demand = 1.0 + _wander(rows, random, 120.0 / period_s, 0.02)
    speed = 1.0 + _wander(rows, random, 60.0 / period_s, 0.002)  # the grid's frequency
    flutter = depth["cavitation"] * _wander(rows, random, 3.0 / period_s, 0.05)
    opening = demand * (1.0 - 0.38 * depth["closing valve"])
    supply = SHUT_HEAD * speed**2 * (1.0 - 0.14 * depth["cavitation"] + flutter)
    resistance = (RATED_HEAD - STATIC_HEAD) / RATED_FLOW**2 / opening**2
    curve = (SHUT_HEAD - RATED_HEAD) / RATED_FLOW**2
    flow = np.sqrt(np.maximum(supply - STATIC_HEAD, 0.0) / (curve + resistance))
    head = supply - curve * flow**2
    inlet = 0.32 + _wander(rows, random, 900.0 / period_s, 0.004) - 0.10 * depth["cavitation"]
    load = 0.45 * speed**3 + 0.55 * (head * flow) / (RATED_HEAD * RATED_FLOW)
    friction = depth["bearing wear"]
    current = RATED_CURRENT * (load + 0.03 * friction)
    vibration = (
        1.8 * speed**2 + 1.6 * depth["cavitation"] * (1 + 6 * np.abs(flutter)) + 1.5 * friction
    )
    vibration = vibration + 0.25 * depth["closing valve"]
    ambient = 21.0 + _wander(rows, random, 7200.0 / period_s, 0.5)
    motor = ambient + _heated(10.0 + 18.0 * load**2, 300.0 / period_s)
    bearing = ambient + _heated(24.0 * speed + 16.0 * friction, 240.0 / period_s)
    fluid = 16.0 + _wander(rows, random, 7200.0 / period_s, 0.3)
    return np.column_stack([current, vibration, inlet, inlet + head, flow, motor, bearing, fluid])


def _measure(
    truth: "NDArray[np.float64]",
    random: np.random.Generator,
    depth: "Mapping[str, NDArray[np.float64]]",
) -> "NDArray[np.float64]":
    """Sensors add noise (a little coloured) and resolve two or three decimals."""
    noise = random.standard_normal(truth.shape) * _NOISE
    noise[:, 1] *= 1.0 + 2.0 * depth["cavitation"]
    noise[1:] = 0.8 * noise[1:] + 0.3 * noise[:-1]
    measured: NDArray[np.float64] = np.round(truth + noise, 3)
    return measured


def _wander(
    rows: int, random: np.random.Generator, memory: float, spread: float
) -> "NDArray[np.float64]":
    """A first-order autoregressive walk of the given memory (rows) and standard deviation."""
    keep = float(np.exp(-1.0 / memory))
    steps = random.standard_normal(rows) * spread * np.sqrt(1.0 - keep**2)
    steps[0] = random.standard_normal() * spread
    return _recursive(steps, keep)


def _heated(power: "NDArray[np.float64]", memory: float) -> "NDArray[np.float64]":
    """First-order heating towards `power`, already warm at the start."""
    keep = float(np.exp(-1.0 / memory))
    steps = (1.0 - keep) * power
    steps[0] = power[0]
    return _recursive(steps, keep)


def _recursive(steps: "NDArray[np.float64]", keep: float) -> "NDArray[np.float64]":
    """y[i] = keep * y[i-1] + steps[i]."""
    out = np.empty_like(steps)
    value = 0.0
    for i, step in enumerate(steps.tolist()):
        value = keep * value + step
        out[i] = value
    return out
