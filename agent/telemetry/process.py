"""The daemon's process under the names that every Prometheus client library gives. Linux.

Each value is read from /proc when somebody looks; what the kernel does not say is NaN.
"""

import math
import os
import resource
from pathlib import Path

from agent.telemetry.metrics import Metrics

_TICKS = os.sysconf("SC_CLK_TCK")  # a second
_PAGE = os.sysconf("SC_PAGE_SIZE")  # bytes
_STARTED, _VIRTUAL, _RESIDENT = 19, 20, 21  # fields of proc_pid_stat(5) after the command's name


class Process:
    """One look at this process.

    Args:
        proc: where the kernel shows processes.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc

    def register(self, metrics: Metrics) -> None:
        """Show the process among the metrics."""
        metrics.tally_callback(
            "process_cpu_seconds_total",
            "Processor time of the daemon in user and kernel mode, seconds",
            self.cpu_s,
        )
        metrics.gauge_callback(
            "process_resident_memory_bytes",
            "Resident memory of the daemon, shared pages counted in full",
            lambda: self._stat(_RESIDENT) * _PAGE,
        )
        metrics.gauge_callback(
            "process_virtual_memory_bytes",
            "Address space of the daemon",
            lambda: self._stat(_VIRTUAL),
        )
        metrics.gauge_callback(
            "process_start_time_seconds",
            "Start of the daemon, seconds since the epoch",
            self.started,
        )
        metrics.gauge_callback("process_open_fds", "Open file descriptors of the daemon", self.fds)
        metrics.gauge_callback(
            "process_max_fds", "File descriptors that the daemon may have open", self.most_fds
        )

    def cpu_s(self) -> float:
        """Processor time, seconds."""
        times = os.times()
        return times.user + times.system

    def started(self) -> float:
        """Wall time of the start, as the kernel's clock has it, seconds since the epoch."""
        try:
            text = (self._proc / "stat").read_text()
            booted = float(text.partition("\nbtime ")[2].split()[0])
        except (OSError, IndexError):
            return math.nan
        return booted + self._stat(_STARTED) / _TICKS

    def fds(self) -> float:
        """How many file descriptors are open."""
        try:
            return sum(1 for _ in (self._proc / "self" / "fd").iterdir())
        except OSError:
            return math.nan

    def most_fds(self) -> float:
        """How many may be."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return math.inf if soft == resource.RLIM_INFINITY else soft

    def _stat(self, place: int) -> float:
        try:
            return float(
                (self._proc / "self" / "stat").read_text().rpartition(") ")[2].split()[place]
            )
        except (OSError, IndexError):
            return math.nan
