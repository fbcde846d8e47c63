"""Whether a run fits into this machine's memory, said before it starts."""

import os
from pathlib import Path

from agent.errors import TooLarge

MIB = 2**20


def available() -> int:
    """Bytes that can be used without swapping: the kernel's estimate, or less by the cgroup's limit."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min(free, _cgroup_left())


def resident() -> int:
    """Bytes of this process that are in memory: libraries that a step before has loaded, torch say."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _cgroup_left() -> int:
    """What the unified control group of this process leaves; unlimited where none is set."""
    root = Path("/sys/fs/cgroup")
    try:
        limit = (root / "memory.max").read_text().strip()
        used = int((root / "memory.current").read_text())
    except (OSError, ValueError):
        return 2**63
    return 2**63 if limit == "max" else max(0, int(limit) - used)


def refuse_more_than(free: int, needed: int, source: str) -> None:
    """Refuse work that would not fit.

    Raises:
        TooLarge: fewer bytes are free than are needed; both figures are named.
    """
    if needed > free:
        raise TooLarge(
            f"about {mib(needed)} MiB of memory are needed at the peak, {mib(free)} MiB are free",
            where=source,
            hint="Close other programs, or use a machine with more memory",
        )


def mib(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // MIB)
