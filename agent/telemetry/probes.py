"""What the machine is doing: processor, memory, heat and disk. Linux; absent values are NaN.

Each probe reads a file or two of /proc or /sys when it is asked, and nothing in between.
"""

import math
import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.telemetry.metrics import Metrics

MIB = 1024 * 1024

_PSS = re.compile(rb"^Pss:\s+(\d+) kB", re.MULTILINE)
_AVAILABLE = re.compile(rb"^MemAvailable:\s+(\d+) kB", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """One look at the machine.

    Attributes:
        cpu_percent: of this process since the last look, 100 is one core.
        memory_mib: proportional memory (PSS) of this process.
        available_mib: memory that the machine could still give.
        temperature_c: the hottest thermal zone, degrees Celsius.
        disk_free_mib: room left on the disk that holds the state.
    """

    cpu_percent: float
    memory_mib: float
    available_mib: float
    temperature_c: float
    disk_free_mib: float


class Probes:
    """Looks at the machine.

    Args:
        state: a path on the disk whose free space matters.
        proc: where the kernel shows processes.
        sys: where the kernel shows devices.
    """

    def __init__(
        self, state: Path, *, proc: Path = Path("/proc"), sys: Path = Path("/sys")
    ) -> None:
        self._state = state
        self._proc = proc
        self._zones = sorted(sys.glob("class/thermal/thermal_zone*/temp"))
        self._cpu = CpuMeter()

    def look(self) -> Machine:
        """Everything at once; under a millisecond."""
        return Machine(
            cpu_percent=self._cpu.percent(),
            memory_mib=self.memory_mib(),
            available_mib=_field(self._proc / "meminfo", _AVAILABLE) / 1024,
            temperature_c=self.temperature_c(),
            disk_free_mib=self.disk_free_mib(),
        )

    def memory_mib(self) -> float:
        """Proportional set size: shared pages count by their share."""
        return _field(self._proc / "self/smaps_rollup", _PSS) / 1024

    def temperature_c(self) -> float:
        """The hottest zone; NaN where the machine shows none."""
        found = []
        for zone in self._zones:
            with suppress(OSError, ValueError):  # a zone may be switched off
                found.append(int(zone.read_bytes()) / 1000)
        return max(found, default=math.nan)

    def disk_free_mib(self) -> float:
        """Room for a process without privileges."""
        try:
            found = os.statvfs(self._state)
        except OSError:
            return math.nan
        return found.f_bavail * found.f_frsize / MIB

    def register(self, metrics: Metrics) -> None:
        """Show the probes among the metrics; each is asked when somebody looks."""
        metrics.gauge_callback(
            "edge_agent_memory_pss_bytes",
            "Proportional memory of the daemon, shared pages counted by their share",
            lambda: self.memory_mib() * MIB,
        )
        metrics.gauge_callback(
            "edge_agent_temperature_celsius",
            "Temperature of the machine's hottest thermal zone",
            self.temperature_c,
        )
        metrics.gauge_callback(
            "edge_agent_disk_free_bytes",
            "Room that is left on the disk of the state",
            lambda: self.disk_free_mib() * MIB,
        )


class CpuMeter:
    """Processor time between two looks."""

    def __init__(self) -> None:
        self._last = (time.monotonic(), process_time())

    def percent(self) -> float:
        """Since the last call, of one core."""
        now = (time.monotonic(), process_time())
        elapsed, used = now[0] - self._last[0], now[1] - self._last[1]
        self._last = now
        return 100 * used / elapsed if elapsed > 0 else 0.0


def process_time() -> float:
    """Processor time of this process and its threads, seconds."""
    return time.process_time()


def _field(path: Path, pattern: re.Pattern[bytes]) -> float:
    try:
        match = pattern.search(path.read_bytes())
    except OSError:
        return math.nan
    return float(match[1]) if match else math.nan
