"""Metrics as Prometheus' text format 0.0.4. Pure but for asking the gauges that are asked."""

import logging
import math
from collections.abc import Iterator, Sequence

from agent.telemetry.metrics import Counter, Distribution, Histogram, Metric, Metrics, Shown

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

_log = logging.getLogger(__name__)


def render(metrics: Metrics) -> bytes:
    """Every metric, by name. A gauge that fails to answer is left out and logged."""
    lines: list[str] = []
    for metric in metrics:
        try:
            samples = list(_samples(metric))
        except Exception:  # noqa: BLE001 (a probe must not take the others down)
            _log.exception("the metric %s cannot be read", metric.name)
            continue
        lines.append(f"# HELP {metric.name} {_help(metric.help)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += samples
    return "".join(f"{line}\n" for line in lines).encode()


def _samples(metric: Metric) -> Iterator[str]:
    if isinstance(metric, Counter | Shown):
        for values, value in sorted(metric.series().items()):
            yield f"{metric.name}{_labels(metric.labels, values)} {_number(value)}"
    elif isinstance(metric, Histogram):
        for values, found in sorted(metric.series().items(), key=lambda item: item[0]):
            yield from _distribution(metric, values, found)


def _distribution(metric: Histogram, values: Sequence[str], found: Distribution) -> Iterator[str]:
    names, seen = (*metric.labels, "le"), 0
    for edge, count in zip((*metric.edges, math.inf), found.counts, strict=True):
        seen += count
        labels = _labels(names, (*values, _number(edge)))
        yield f"{metric.name}_bucket{labels} {seen}"
    plain = _labels(metric.labels, values)
    yield f"{metric.name}_sum{plain} {_number(found.total)}"
    yield f"{metric.name}_count{plain} {seen}"


def _labels(names: Sequence[str], values: Sequence[str]) -> str:
    if not names:
        return ""
    pairs = zip(names, values, strict=True)
    return "{" + ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in pairs) + "}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")
