"""What an operator can choose about how models are run."""

from dataclasses import dataclass, fields

from agent.engines.placement import Isolation, Policy
from agent.errors import BadConfig

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """How models are run: how much memory they may take, and which run in processes of their own.

    Attributes:
        memory_mib: for all loaded models together, MiB; 0 for half of the machine's.
        isolation: auto isolates language, speech and other heavy models; always and never do as said.
        isolated: names of models that run in a process of their own whatever else is said.
        worker_cpus: processors that one such process may use at once, on average; 0 for all.
        worker_timeout_s: for one answer; after that the process is ended and started again, seconds.
        worker_requests: requests that are with one such process at once.
    """

    memory_mib: int = 0
    isolation: Isolation = "auto"
    isolated: tuple[str, ...] = ()
    worker_cpus: float = 0.0
    worker_timeout_s: float = 60.0
    worker_requests: int = 4

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.startswith("worker_") and value <= 0 and item.name != "worker_cpus":
                raise BadConfig("must be above 0", where=item.name)
        if self.memory_mib < 0 or self.worker_cpus < 0:
            where = "memory_mib" if self.memory_mib < 0 else "worker_cpus"
            raise BadConfig("must not be negative", where=where)
        if self.worker_requests > 64:
            raise BadConfig("must be at most 64", where="worker_requests")

    @property
    def budget(self) -> int | None:
        """`memory_mib` in bytes; None for half of the machine's."""
        return self.memory_mib * MIB or None

    @property
    def policy(self) -> Policy:
        """Which models run in a worker."""
        return Policy(self.isolation, self.isolated)
