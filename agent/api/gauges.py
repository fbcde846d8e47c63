"""What the loaded models take, as gauges that are asked for when somebody looks."""

from collections.abc import Sequence
from typing import Protocol

from agent.telemetry.metrics import Metrics


class PoolPort(Protocol):
    """The account of the memory budget."""

    @property
    def budget(self) -> int: ...
    @property
    def taken(self) -> int: ...


class WorkedPort(Protocol):
    """A loaded model that may run in a worker."""

    @property
    def isolated(self) -> bool: ...
    @property
    def memory(self) -> int: ...
    @property
    def ends(self) -> int: ...


class LoadedPort(Protocol):
    """Every loaded model, and their account."""

    @property
    def pool(self) -> PoolPort: ...
    def loaded(self) -> Sequence[WorkedPort]: ...


def register(metrics: Metrics, models: LoadedPort) -> None:
    """Make the gauges known."""
    gauges = (
        ("models_loaded", "Models in memory", lambda: len(models.loaded())),
        ("models_memory_bytes", "Of the budget, taken by models", lambda: models.pool.taken),
        ("models_memory_budget_bytes", "For all models", lambda: models.pool.budget),
        ("workers", "Models in processes of their own", lambda: len(_workers(models))),
        (
            "workers_memory_bytes",
            "What these processes have for themselves",
            lambda: _memory(models),
        ),
        (
            "workers_ends",
            "Times that a process of a loaded model ended by itself",
            lambda: sum(model.ends for model in _workers(models)),
        ),
    )
    for name, text, ask in gauges:
        metrics.gauge_callback(f"edge_agent_{name}", text, ask)


def _workers(models: LoadedPort) -> list[WorkedPort]:
    return [model for model in models.loaded() if model.isolated]


def _memory(models: LoadedPort) -> int:
    return sum(model.memory for model in _workers(models))
