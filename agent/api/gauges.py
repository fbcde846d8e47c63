"""Figures that others keep, as metrics: loaded models and their processes, the outbox."""

from collections.abc import Sequence
from typing import Protocol

from agent import __version__
from agent.store.account import OutboxCounts
from agent.telemetry.metrics import Metrics, Shown


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


class LoadedPort(Protocol):
    """Every loaded model, and their account."""

    @property
    def pool(self) -> PoolPort: ...
    @property
    def worker_ends(self) -> int: ...
    def loaded(self) -> Sequence[WorkedPort]: ...


def register(metrics: Metrics, models: LoadedPort) -> None:
    """Make the figures of the loaded models known, and who runs them."""
    about = metrics.gauge("edge_agent_info", "Release of the agent, as a label of 1", ("version",))
    about.set(1, __version__)
    metrics.gauge_callback(
        "edge_agent_models_loaded", "Models that are in memory", lambda: len(models.loaded())
    )
    metrics.gauge_callback(
        "edge_agent_models_memory_bytes",
        "Memory of the budget that loaded models take",
        lambda: models.pool.taken,
    )
    metrics.gauge_callback(
        "edge_agent_models_memory_budget_bytes",
        "Memory that loaded models may take together",
        lambda: models.pool.budget,
    )
    metrics.gauge_callback(
        "edge_agent_workers",
        "Models that run in processes of their own",
        lambda: len(_workers(models)),
    )
    metrics.gauge_callback(
        "edge_agent_workers_memory_bytes",
        "Memory that these processes have for themselves",
        lambda: sum(model.memory for model in _workers(models)),
    )
    metrics.tally_callback(
        "edge_agent_worker_ends_total",
        "Processes of models that ended by themselves",
        lambda: models.worker_ends,
    )


def _workers(models: LoadedPort) -> list[WorkedPort]:
    return [model for model in models.loaded() if model.isolated]


class OutboxMetrics:
    """What waits in the outbox, and what became of the rest since the device was set up."""

    def __init__(self, metrics: Metrics) -> None:
        self._shown: dict[str, Shown] = {
            "queued": metrics.gauge(
                "edge_agent_outbox_messages", "Messages that wait for the cloud", ("class",)
            ),
            "bytes": metrics.gauge(
                "edge_agent_outbox_bytes",
                "Room that waiting messages take, as it is charged",
                ("class",),
            ),
            "enqueued": metrics.tally(
                "edge_agent_outbox_enqueued_total", "Messages that were ever put in", ("class",)
            ),
            "delivered": metrics.tally(
                "edge_agent_outbox_delivered_total",
                "Messages that a broker has acknowledged",
                ("class",),
            ),
            "evicted": metrics.tally(
                "edge_agent_outbox_evicted_total", "Messages that made room for others", ("class",)
            ),
            "expired": metrics.tally(
                "edge_agent_outbox_expired_total",
                "Messages that became worthless before they could go",
                ("class",),
            ),
            "thinned": metrics.tally(
                "edge_agent_outbox_thinned_total",
                "Messages that were folded into a summary of several",
                ("class",),
            ),
            "damaged": metrics.tally(
                "edge_agent_outbox_damaged_total",
                "Messages that were lost in a damaged file",
                ("class",),
            ),
        }

    def show(self, counts: OutboxCounts) -> None:
        """Take over the outbox's own account, which survives the daemon."""
        for kind, account in counts.by_class.items():
            for what, metric in self._shown.items():
                metric.set(getattr(account, what), kind)
