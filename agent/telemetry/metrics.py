"""Counters, gauges and histograms, cheap enough for every request.

Label values are passed in order, without objects per series. A metric keeps at most `MAX_SERIES`
combinations of label values; later ones are counted together as ``other``, so that no client can
make memory grow by the names it asks for. Safe from any thread.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from threading import Lock
from typing import Literal, TypeAlias, TypeVar

Kind = Literal["counter", "gauge", "histogram"]
Labels: TypeAlias = tuple[str, ...]

MAX_SERIES = 500  # combinations of label values in one metric
OTHER = "other"

#: Upper edges for the time of a request, seconds.
REQUEST_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5, 10.0)

_NAME = re.compile(r"[a-z_][a-z0-9_]*")


class Metric:
    """A name, a help text and label names."""

    kind: Kind

    def __init__(self, name: str, help_text: str, labels: Sequence[str]) -> None:
        if not all(_NAME.fullmatch(word) for word in (name, *labels)):
            raise ValueError(f"not a metric's name or label: {name} {labels}")
        self.name = name
        self.help = help_text
        self.labels = tuple(labels)
        self._lock = Lock()

    def _key(self, series: Mapping[Labels, object], values: Labels) -> Labels:
        """The series to count under; for a new one only, which is where the bound is held."""
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, got {values}")
        return values if len(series) < MAX_SERIES else (OTHER,) * len(values)


class Counter(Metric):
    """A number that only grows."""

    kind: Kind = "counter"

    def __init__(self, name: str, help_text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, help_text, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def inc(self, amount: float = 1, *values: str) -> None:
        """Add `amount`, not negative, to the series of these label values."""
        with self._lock:
            if values not in self._values:
                values = self._key(self._values, values)
            self._values[values] = self._values.get(values, 0) + amount

    def value(self, *values: str) -> float:
        """What was counted for these label values so far."""
        return self._values.get(values, 0)

    def series(self) -> dict[Labels, float]:
        """Every series and its value."""
        with self._lock:
            return dict(self._values)


class Shown(Metric):
    """A number that is counted or measured elsewhere: set, or asked for when somebody looks."""

    def __init__(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        ask: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(name, help_text, labels)
        self._values: dict[Labels, float] = {}
        self._ask = ask

    def set(self, value: float, *values: str) -> None:
        """Set the series of these label values."""
        with self._lock:
            if values not in self._values:
                values = self._key(self._values, values)
            self._values[values] = value

    def series(self) -> dict[Labels, float]:
        """Every series and its value."""
        if self._ask is not None:
            return {(): self._ask()}
        with self._lock:
            return dict(self._values)


class Gauge(Shown):
    """A number that goes up and down."""

    kind: Kind = "gauge"


class Tally(Shown):
    """A number that only grows, of which somebody else keeps the account."""

    kind: Kind = "counter"


class Distribution:
    """One series of a histogram.

    Attributes:
        counts: observations by bucket, not cumulated; the last one holds those over every edge.
        total: sum of what was observed.
    """

    __slots__ = ("counts", "total")

    def __init__(self, size: int) -> None:
        self.counts = [0] * size
        self.total = 0.0

    def quantile(self, q: float, edges: Sequence[float]) -> float:
        """The value below which a share `q` lies, interpolated within its bucket.

        NaN when nothing was observed; the highest edge when it lies above all.
        """
        wanted = q * sum(self.counts)
        if not wanted:
            return float("nan")
        seen, low = 0.0, 0.0
        for count, edge in zip(self.counts, edges, strict=False):
            if count and seen + count >= wanted:
                return low + (edge - low) * (wanted - seen) / count
            seen, low = seen + count, edge
        return edges[-1]


class Histogram(Metric):
    """How observed values are spread."""

    kind: Kind = "histogram"

    def __init__(
        self,
        name: str,
        help_text: str,
        buckets: Sequence[float] = REQUEST_BUCKETS,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(name, help_text, labels)
        self.edges = tuple(buckets)
        if list(self.edges) != sorted(set(self.edges)) or not self.edges:
            raise ValueError(f"the buckets of {name} do not rise")
        self._series: dict[Labels, Distribution] = {}

    def observe(self, value: float, *values: str) -> None:
        """Count one value in the series of these label values."""
        with self._lock:
            found = self._series.get(values)
            if found is None:
                key = self._key(self._series, values)
                found = self._series.setdefault(key, Distribution(len(self.edges) + 1))
            found.counts[bisect_left(self.edges, value)] += 1
            found.total += value

    def series(self) -> dict[Labels, Distribution]:
        """Every series, copied."""
        with self._lock:
            copies = {key: Distribution(len(self.edges) + 1) for key in self._series}
            for key, found in self._series.items():
                copies[key].counts = list(found.counts)
                copies[key].total = found.total
            return copies


M = TypeVar("M", bound=Metric)


class Metrics:
    """Every metric of the daemon by name. Asking for a metric twice gives the same one."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}

    def __iter__(self) -> Iterator[Metric]:
        return iter(sorted(self._metrics.values(), key=lambda metric: metric.name))

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A counter; by convention its name ends in ``_total``."""
        return self._add(Counter(name, help_text, labels))

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A gauge that is set."""
        return self._add(Gauge(name, help_text, labels))

    def gauge_callback(self, name: str, help_text: str, ask: Callable[[], float]) -> Gauge:
        """A gauge whose value is asked for when somebody looks; NaN for "unknown"."""
        return self._add(Gauge(name, help_text, ask=ask))

    def tally(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Tally:
        """A counter that is set to what is counted elsewhere; its name ends in ``_total``."""
        return self._add(Tally(name, help_text, labels))

    def tally_callback(self, name: str, help_text: str, ask: Callable[[], float]) -> Tally:
        """A counter that is counted elsewhere, and asked for when somebody looks."""
        return self._add(Tally(name, help_text, ask=ask))

    def reading(self, name: str) -> float:
        """What a gauge without labels says now; 0 when there is no such gauge."""
        found = self._metrics.get(name)
        return found.series().get((), 0.0) if isinstance(found, Gauge) else 0.0

    def histogram(
        self,
        name: str,
        help_text: str,
        buckets: Sequence[float] = REQUEST_BUCKETS,
        labels: Sequence[str] = (),
    ) -> Histogram:
        """A histogram with these upper edges."""
        return self._add(Histogram(name, help_text, buckets, labels))

    def _add(self, metric: M) -> M:
        found = self._metrics.setdefault(metric.name, metric)
        if type(found) is not type(metric) or found.labels != metric.labels:
            raise ValueError(f"{metric.name} is already a {found.kind} with labels {found.labels}")
        return found
