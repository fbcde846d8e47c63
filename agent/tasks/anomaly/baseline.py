"""What is normal for one device, learned from its healthy past.

Each sensor gets a robust location and scale. The trailing means of the scaled sensors get a
covariance, shrunk towards its diagonal because their neighbours in time are nearly the same value
(few of them are independent). From these come views of each sensor at each row, in healthy standard
deviations:

- its *level*: how far its trailing mean is from the healthy one;
- its *residual*: how far it is from what the other sensors say it should be. With P the inverse
  covariance and d the deviation, that is (P d)_c / sqrt(P_cc), the standardised residual of sensor c
  regressed on all others (the decomposition behind Hotelling's T2; Mason, Tracy and Young 1995).

Machines drift: ambient temperature, filters, wear that is normal. So the reference follows slowly
while all is healthy, and the covariance goes on being learned, as a running mean whose memory grows
to a bound. A sensor that drifts by nature (a temperature) says so already in its healthy past: the
means of successive blocks differ little from each other compared with their spread, which the ratio
of von Neumann (1941) measures. The reference follows such a sensor more quickly, healthy or not, so
that what counts is how fast it moves, not where it has come to. Whoever scores decides which blocks
are healthy.

A load change moves levels but no residuals; a failing part moves the residuals first. A third view,
the same for all sensors, is the machine as a whole: the root of Hotelling's T2 per sensor.
"""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

BLOCK_ROWS = 32  # rows after which the reference moves
CHANNELS = 3  # level, residual, machine
_CLIP = 1000.0  # scaled readings beyond this carry no more information
_OUTLIER = 10.0  # in the healthy past, readings beyond this count as this
_IQR = 1.349  # interquartile range of the standard normal distribution
_FLOOR = 2e-3  # smallest scale, as a share of the location: below it is resolution, not behaviour
_RIDGE = 0.1  # added to the correlation's diagonal
_NUGGET = 1e-3  # added to every variance: a constant sensor has none of its own
_FASTEST = 0.15  # of the way to a block's mean, for a sensor that only drifts
_NO_DRIFT = 0.3  # ratio of von Neumann from which a sensor counts as steady; 2 is pure noise
_LEAST_BLOCKS = 6  # fewer say nothing about drift
_RANGE = (1.0, 99.0)  # percentiles reported as the healthy range
_MEMORY_ROWS = 50_000  # rows that the covariance rests on at most


class Baseline(msgspec.Struct):
    """The healthy behaviour of k sensors. Plain values, so that it serialises as it is.

    Attributes:
        location: median of each sensor, its own unit.
        scale: robust standard deviation, its own unit; never zero.
        low: lower end of the healthy range, its own unit.
        high: upper end of the healthy range, its own unit.
        reference: where the trailing means are expected now, scaled.
        covariance: of their deviations from the reference, row-major k * k.
        rows: how many rows the covariance rests on.
        drift: share of the way that the reference of a drifting sensor goes in each block.
    """

    location: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]
    reference: list[float]
    covariance: list[float]
    rows: int
    drift: list[float]

    @classmethod
    def learn(
        cls, values: "Floats", smooth: int, *, drifts: bool = True
    ) -> "tuple[Baseline, Floats]":
        """Learn from healthy rows.

        Args:
            values: float64 [n, k], NaN where a sensor has no reading; n at least 2 * `smooth`.
            smooth: rows of the trailing mean.
            drifts: False takes every sensor for a steady one.

        Returns:
            The baseline, and the deviations [n - smooth + 1, k] of the past itself, for `Views.seen`.
        """
        known = np.where(np.isnan(values).all(axis=0), 0.0, values)  # a sensor that never spoke
        q25, location, q75 = np.nanpercentile(known, (25.0, 50.0, 75.0), axis=0)
        low, high = np.nanpercentile(known, _RANGE, axis=0)
        scale = _scale(known, location, (q75 - q25) / _IQR)
        scaled = np.clip(np.nan_to_num((known - location) / scale), -_OUTLIER, _OUTLIER)
        means = trailing_mean(scaled, smooth)
        drift = _drift(scaled) if drifts else np.zeros(len(location))
        reference, deviation = _followed(means, drift)
        baseline = cls(
            location.tolist(),
            scale.tolist(),
            low.tolist(),
            high.tolist(),
            reference.tolist(),
            (deviation.T @ deviation / len(deviation)).ravel().tolist(),
            len(values),
            drift.tolist(),
        )
        return baseline, deviation


class Views:
    """Computes the views, and lets the baseline follow what is healthy."""

    def __init__(self, baseline: Baseline, smooth: int) -> None:
        self._baseline = baseline
        self._smooth = smooth
        k = len(baseline.location)
        self._location = np.array(baseline.location)
        self._per_scale = 1.0 / np.array(baseline.scale)
        self._reference = np.array(baseline.reference)
        self._covariance = np.array(baseline.covariance).reshape(k, k)
        self._drift = np.array(baseline.drift)
        self._rows = baseline.rows
        self._prepare()

    @property
    def baseline(self) -> Baseline:
        """As it stands now, to be stored."""
        self._baseline.reference = self._reference.tolist()
        self._baseline.covariance = self._covariance.ravel().tolist()
        self._baseline.rows = self._rows
        return self._baseline

    def means(self, values: "Floats") -> "Floats":
        """Trailing means [n - smooth + 1, k] of consecutive readings [n, k], scaled.

        A missing reading stands at the reference: it says neither healthy nor faulty.
        """
        scaled = (values - self._location) * self._per_scale
        missing = np.isnan(scaled)
        if missing.any():
            scaled = np.where(missing, self._reference, scaled)
        np.clip(scaled, -_CLIP, _CLIP, out=scaled)
        return trailing_mean(scaled, self._smooth)

    def of(self, means: "Floats") -> "Floats":
        """The views [m, k, 3] of trailing means [m, k]."""
        return self.seen(means - self._reference)

    def seen(self, deviation: "Floats") -> "Floats":
        """The views [m, k, 3] of deviations [m, k] from the reference."""
        views = np.empty((*deviation.shape, CHANNELS))
        np.multiply(deviation, self._per_spread, out=views[..., 0])
        np.matmul(deviation, self._residual, out=views[..., 1])
        squared = (deviation * views[..., 1] * self._root).mean(axis=1)
        views[..., 2] = np.sqrt(np.maximum(squared, 0.0))[:, None]
        return views

    def follow(self, means: "Floats", share: float, *, healthy: bool) -> None:
        """Take a block of trailing means [m, k] into the baseline.

        Args:
            means: of consecutive rows.
            share: how far the reference moves towards the block's mean, 0 to 1; that of a drifting
                sensor moves at least as far as its drift says.
            healthy: whether the covariance may learn from the block.
        """
        deviation = means - self._reference
        move = np.maximum(self._drift, share)
        self._reference = self._reference + move * deviation.mean(axis=0)
        if healthy:
            self._widen(deviation)

    def _widen(self, deviation: "Floats") -> None:
        """Learn the covariance a little further."""
        rows = len(deviation)
        weight = rows / (self._rows + rows)
        self._covariance += weight * (deviation.T @ deviation / rows - self._covariance)
        self._rows = min(self._rows + rows, _MEMORY_ROWS)
        self._prepare()

    def _prepare(self) -> None:
        covariance = _shrunk(self._covariance, self._rows / self._smooth)
        self._per_spread = 1.0 / np.sqrt(np.diag(covariance))
        precision = np.linalg.inv(covariance)
        self._root = np.sqrt(np.diag(precision))
        self._residual = precision / self._root


def trailing_mean(values: "Floats", rows: int) -> "Floats":
    """Mean of each row and the `rows` - 1 before it: [n, k] -> [n - rows + 1, k].

    Sums of doubling length are added, so that a row's mean does not depend, even in its last bit, on
    how many rows are handed in.
    """
    total, width, sums = np.zeros((1, 1)), 0, values
    for bit in range(rows.bit_length()):
        if rows >> bit & 1:
            part = sums[width:]
            total = total[: len(part)] + part if width else part
            width += 1 << bit
        if rows >> (bit + 1):
            sums = sums[: -(1 << bit)] + sums[1 << bit :]
    return np.asarray(total / rows)


def _scale(values: "Floats", location: "Floats", robust: "Floats") -> "Floats":
    """The robust spread; the plain one where most readings are equal; a floor for constants."""
    plain = np.nanstd(values, axis=0)
    scale = np.where(robust > 1e-6 * plain, robust, plain)
    floor = np.maximum(_FLOOR * np.abs(location), 1e-9)
    constant = plain < 1e-12 * np.maximum(1.0, np.abs(location))
    return np.where(constant, np.maximum(np.abs(location) * 0.01, floor), np.maximum(scale, floor))


def _drift(scaled: "Floats") -> "Floats":
    """How quickly each sensor's reference follows, from its healthy past [n, k]: [k], 0 to `_FASTEST`."""
    blocks = len(scaled) // BLOCK_ROWS
    if blocks < _LEAST_BLOCKS:
        return np.zeros(scaled.shape[1])
    means = scaled[-blocks * BLOCK_ROWS :].reshape(blocks, BLOCK_ROWS, -1).mean(axis=1)
    variance = means.var(axis=0)
    steps = np.square(np.diff(means, axis=0)).mean(axis=0)
    ratio = np.divide(steps, variance, out=np.full_like(steps, 2.0), where=variance > 1e-6)
    return np.asarray(_FASTEST * np.clip(1.0 - ratio / _NO_DRIFT, 0.0, 1.0))


def _followed(means: "Floats", drift: "Floats") -> "tuple[Floats, Floats]":
    """The reference after the healthy past, and the deviations from it on the way."""
    reference = np.where(drift > 0, means[:BLOCK_ROWS].mean(axis=0), means.mean(axis=0))
    parts = []
    for at in range(0, len(means), BLOCK_ROWS):
        deviation = means[at : at + BLOCK_ROWS] - reference
        parts.append(deviation)
        reference = reference + drift * deviation.mean(axis=0)
    return reference, np.concatenate(parts)


def _shrunk(covariance: "Floats", independent: float) -> "Floats":
    """The covariance, shrunk towards its diagonal as far as few independent rows demand."""
    k = len(covariance)
    share = k / (k + max(1.0, independent))
    shrunk = (1.0 - share) * covariance
    np.fill_diagonal(shrunk, (np.diag(covariance) + _NUGGET) * (1.0 + _RIDGE))
    return shrunk
