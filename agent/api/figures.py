"""Figures for people, from what is counted."""

from dataclasses import asdict
from typing import cast

from agent.api.answers import ModelEntry, ModelFigures, OutboxStatus, ServingFigures
from agent.api.http.server import REQUESTS
from agent.store.account import OutboxCounts
from agent.telemetry.metrics import Histogram, Metrics


def serving_figures(metrics: Metrics, running: int) -> ServingFigures:
    """Requests of all callers.

    Args:
        metrics: where the server counts them.
        running: requests inside models and pipelines.
    """
    answered = metrics.counter(*REQUESTS).series()
    return {
        "requests": int(sum(answered.values())),
        "refused": int(sum(n for (_, status), n in answered.items() if status == "429")),
        "running": running,
        "connections": int(metrics.reading("edge_agent_api_connections")),
    }


def model_figures(model: ModelEntry, seconds: Histogram) -> ModelFigures:
    """Requests of a model and their times, milliseconds."""
    found = seconds.series().get((model["name"], model["version"]))
    if found is None:
        return {**model, "requests": 0, "p50_ms": None, "p99_ms": None, "counts": []}
    return {
        **model,
        "requests": sum(found.counts),
        "p50_ms": round(1000 * found.quantile(0.5, seconds.edges), 4),
        "p99_ms": round(1000 * found.quantile(0.99, seconds.edges), 4),
        "counts": found.counts,
    }


def outbox_status(counts: OutboxCounts) -> OutboxStatus:
    """The account of the outbox, in all and by class."""
    return cast("OutboxStatus", {**asdict(counts.total), "classes": dict(counts.by_class)})
