"""Figures for people, from what is counted."""

from dataclasses import asdict
from typing import cast

from agent.api.admission import Admission
from agent.api.answers import ModelEntry, ModelFigures, OutboxStatus, ServingFigures
from agent.api.http.server import requests_counter
from agent.api.ports import ModelPort
from agent.api.settings import MIB
from agent.store.account import OutboxCounts
from agent.telemetry.metrics import Distribution, Histogram, Metrics


def serving_figures(metrics: Metrics, admission: Admission) -> ServingFigures:
    """Requests of all callers.

    Args:
        metrics: where the server counts them.
        admission: where they wait and run.
    """
    answered = requests_counter(metrics).series()
    return {
        "requests": int(sum(answered.values())),
        "refused": int(sum(n for (_, status), n in answered.items() if status == "429")),
        "running": admission.running,
        "waiting": admission.waiting,
        "connections": int(metrics.reading("edge_agent_api_connections")),
    }


def model_figures(model: ModelEntry, loaded: ModelPort | None, seconds: Histogram) -> ModelFigures:
    """Requests of a model, their times in milliseconds, and its memory.

    Args:
        model: as it is installed.
        loaded: the same, when it is loaded.
        seconds: times of requests by model and version.
    """
    found = seconds.series().get((model["name"], model["version"]))
    asked = found is not None
    spread = found or Distribution(0)
    return {
        **model,
        "requests": sum(spread.counts),
        "p50_ms": round(1000 * spread.quantile(0.5, seconds.edges), 4) if asked else None,
        "p99_ms": round(1000 * spread.quantile(0.99, seconds.edges), 4) if asked else None,
        "memory_mib": loaded.memory / MIB if loaded is not None and loaded.memory else None,
        "counts": spread.counts,
    }


def outbox_status(counts: OutboxCounts) -> OutboxStatus:
    """The account of the outbox, in all and by class."""
    return cast("OutboxStatus", {**asdict(counts.total), "classes": dict(counts.by_class)})
