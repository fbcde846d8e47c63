"""Counting: exact from many threads, bounded in series, and read as Prometheus reads it."""

import math
from threading import Thread

import pytest

from agent.telemetry import metrics as m
from agent.telemetry.exposition import render
from agent.telemetry.metrics import MAX_SERIES, OTHER, Distribution, Metrics


def test_counts_from_many_threads_are_exact() -> None:
    counter = Metrics().counter("edge_agent_x_total", "x", ("who",))
    threads = [Thread(target=lambda: [counter.inc(1, "a") for _ in range(5000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.value("a") == 20_000


def test_label_values_over_the_bound_are_counted_together() -> None:
    """A client that asks for ever new names cannot make memory grow, and nothing goes uncounted."""
    counter = Metrics().counter("edge_agent_x_total", "x", ("name",))
    for number in range(MAX_SERIES + 10):
        counter.inc(1, f"n{number}")
    assert len(counter.series()) == MAX_SERIES + 1
    assert counter.value(OTHER) == 10


def test_wrong_number_of_labels_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="labels"):
        Metrics().counter("edge_agent_x_total", "x", ("name",)).inc(1)


def test_the_same_name_gives_the_same_metric_and_no_other_kind() -> None:
    metrics = Metrics()
    assert metrics.counter("edge_agent_x", "x") is metrics.counter("edge_agent_x", "x")
    with pytest.raises(ValueError, match="already a counter"):
        metrics.gauge("edge_agent_x", "x")


def test_buckets_must_rise() -> None:
    with pytest.raises(ValueError, match="do not rise"):
        Metrics().histogram("edge_agent_x", "x", (1.0, 1.0))


def test_quantiles_are_interpolated_within_their_bucket() -> None:
    found = Distribution(3)
    found.counts = [10, 10, 0]
    assert found.quantile(0.5, (1.0, 2.0)) == pytest.approx(1.0)
    assert found.quantile(0.75, (1.0, 2.0)) == pytest.approx(1.5)


def test_quantile_of_nothing_is_unknown_and_above_all_edges_is_the_highest() -> None:
    assert math.isnan(Distribution(2).quantile(0.5, (1.0,)))
    above = Distribution(2)
    above.counts = [0, 5]
    assert above.quantile(0.5, (1.0,)) == 1.0


def test_exposition_is_the_text_format() -> None:
    metrics = Metrics()
    metrics.counter("edge_agent_c_total", "Counted\nthings", ("who",)).inc(2, 'a"b\\c\nd')
    metrics.gauge("edge_agent_g", "A gauge").set(1.5)
    metrics.gauge_callback("edge_agent_n", "Unknown", lambda: math.nan)
    histogram = metrics.histogram("edge_agent_h_seconds", "Times", (0.1, 1.0), ("model",))
    for value in (0.1, 0.5, 3):
        histogram.observe(value, "ad")
    assert render(metrics).decode() == (
        "# HELP edge_agent_c_total Counted\\nthings\n"
        "# TYPE edge_agent_c_total counter\n"
        'edge_agent_c_total{who="a\\"b\\\\c\\nd"} 2\n'
        "# HELP edge_agent_g A gauge\n"
        "# TYPE edge_agent_g gauge\n"
        "edge_agent_g 1.5\n"
        "# HELP edge_agent_h_seconds Times\n"
        "# TYPE edge_agent_h_seconds histogram\n"
        'edge_agent_h_seconds_bucket{model="ad",le="0.1"} 1\n'
        'edge_agent_h_seconds_bucket{model="ad",le="1"} 2\n'
        'edge_agent_h_seconds_bucket{model="ad",le="+Inf"} 3\n'
        'edge_agent_h_seconds_sum{model="ad"} 3.6\n'
        'edge_agent_h_seconds_count{model="ad"} 3\n'
        "# HELP edge_agent_n Unknown\n"
        "# TYPE edge_agent_n gauge\n"
        "edge_agent_n NaN\n"
    )


def test_a_gauge_that_fails_takes_no_other_down(caplog: pytest.LogCaptureFixture) -> None:
    metrics = Metrics()
    metrics.gauge_callback("edge_agent_bad", "x", lambda: 1 / 0)
    metrics.counter("edge_agent_good_total", "x").inc()
    assert b"edge_agent_good_total 1\n" in render(metrics)
    assert "edge_agent_bad cannot be read" in caplog.text


def test_request_buckets_hold_the_promised_figures() -> None:
    """The service's own promises (0.1 ms to 10 s) lie inside the edges."""
    assert m.REQUEST_BUCKETS[0] <= 0.0001
    assert m.REQUEST_BUCKETS[-1] >= 10
