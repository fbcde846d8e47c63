"""What is normal for one device, learned from its healthy past.

Each sensor gets a robust location and scale. The trailing means of the scaled sensors get a
covariance, shrunk towards its diagonal because their neighbours in time are nearly the same value
(few of them are independent). From these come views of each sensor at each row, in healthy standard
deviations:

- its *level*: how far its trailing mean is from the healthy one;
- its *residual*: how far it is from what the other sensors say it should be. With P the inverse
  covariance and d the deviation, that is (P d)_c / sqrt(P_cc), the standardised residual of sensor c
  regressed on all others (the decomposition behind Hotelling's T2; Mason, Tracy and Young 1995).

Machines drift: ambient temperature, filters, wear that is normal. A short past shows only the
beginning of that: a sensor that wandered in it must be expected to wander further, and one that did
not must not. The differences of the past's means over two lags (a matrix variogram; Matheron 1963)
say how fast each sensor wanders and which wander together; continued to `_HORIZON`, about the memory
of the reference, they add to the covariance. So a temperature that creeps must creep far to count,
and a flow that stood still need only step.

The reference follows slowly while all is healthy, and the covariance goes on being learned, as a
running mean whose memory grows to a bound. Whoever scores decides which blocks are healthy.

A load change moves levels but no residuals; a failing part moves the residuals first. A third view,
the same for all sensors, is the machine as a whole: the root of Hotelling's T2 per sensor.
"""

from typing import TYPE_CHECKING

import msgspec
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

CHANNELS = 3  # level, residual, machine
_CLIP = 1000.0  # scaled readings beyond this carry no more information
_OUTLIER = 10.0  # in the healthy past, readings beyond this count as this
_IQR = 1.349  # interquartile range of the standard normal distribution
_FLOOR = 2e-3  # smallest scale, as a share of the location: below it is resolution, not behaviour
_RIDGE = 0.1  # added to the correlation's diagonal
_NUGGET = 0.01  # added to every variance: a constant sensor has none of its own
_LAG = 4  # longest lag of the variogram, in lengths of the trailing mean
_HORIZON = 25  # how far it is continued, in the same
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
        wander: covariance of how far they may go until the reference follows, row-major k * k.
        rows: how many rows the covariance rests on.
    """

    location: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]
    reference: list[float]
    covariance: list[float]
    wander: list[float]
    rows: int

    @classmethod
    def learn(cls, values: "Floats", smooth: int) -> "Baseline":
        """Learn from healthy rows.

        Args:
            values: float64 [n, k], NaN where a sensor has no reading; n at least 2 * `smooth`.
            smooth: rows of the trailing mean.
        """
        known = np.where(np.isnan(values).all(axis=0), 0.0, values)  # a sensor that never spoke
        q25, location, q75 = np.nanpercentile(known, (25.0, 50.0, 75.0), axis=0)
        low, high = np.nanpercentile(known, _RANGE, axis=0)
        scale = _scale(known, location, (q75 - q25) / _IQR)
        scaled = np.clip(np.nan_to_num((known - location) / scale), -_OUTLIER, _OUTLIER)
        means = trailing_mean(scaled, smooth)
        reference = means.mean(axis=0)
        deviation = means - reference
        return cls(
            location.tolist(),
            scale.tolist(),
            low.tolist(),
            high.tolist(),
            reference.tolist(),
            (deviation.T @ deviation / len(deviation)).ravel().tolist(),
            _wander(means, smooth).ravel().tolist(),
            len(values),
        )


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
        self._wander = np.array(baseline.wander).reshape(k, k)
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
        deviation = means - self._reference
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
            share: how far the reference moves towards the block's mean, 0 to 1.
            healthy: whether the covariance may learn from the block.
        """
        deviation = means - self._reference
        self._reference = self._reference + share * deviation.mean(axis=0)
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
        covariance = _shrunk(self._covariance + self._wander, self._rows / self._smooth)
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


def _wander(means: "Floats", smooth: int) -> "Floats":
    """Covariance of the change of trailing means [n, k] over the horizon, from that over short lags.

    The variance of a difference grows as a power of the lag: not at all for noise, in proportion for
    a random walk, and no faster is assumed.
    """
    long = min(_LAG * smooth, len(means) // 2)
    short = max(1, long // _LAG)
    growth = np.log(_variance(means, long) / _variance(means, short)) / np.log(long / short)
    ratio = max(1.0, _HORIZON * smooth / long)
    factor = ratio ** (np.clip(growth, 0.0, 1.0) / 2.0)
    change = means[long:] - means[:-long]
    return np.asarray(change.T @ change / len(change) * np.outer(factor, factor))


def _variance(means: "Floats", lag: int) -> "Floats":
    """Of the difference of means [n, k] that are `lag` rows apart: [k], never zero."""
    return np.asarray(np.square(means[lag:] - means[:-lag]).mean(axis=0) + 1e-9)


def _shrunk(covariance: "Floats", independent: float) -> "Floats":
    """The covariance, shrunk towards its diagonal as far as few independent rows demand."""
    k = len(covariance)
    share = k / (k + max(1.0, independent))
    shrunk = (1.0 - share) * covariance
    np.fill_diagonal(shrunk, (np.diag(covariance) + _NUGGET) * (1.0 + _RIDGE))
    return shrunk
