"""Whether a run fits into this machine's memory, said before it starts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from agent import cgroups
from agent.errors import TooLarge

MIB = 2**20
UNLIMITED = 2**63


class _Files(NamedTuple):
    """How one version of control groups calls its limit, what is used, and what could be given back."""

    limit: str
    used: str
    reclaimable: str


_FILES = {
    1: _Files("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: _Files("memory.max", "memory.current", "inactive_file"),
}


def available() -> int:
    """Bytes that can be used without swapping: the kernel's estimate, or less by a cgroup's limit."""
    fields = dict(
        line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines() if ":" in line
    )
    free = int(fields["MemAvailable"].split()[0]) * 1024
    return min(free, cgroup_left(cgroups.own()))


def resident() -> int:
    """Bytes of this process that are in memory: libraries that a step before has loaded, torch say."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cgroup_left(listed: str, root: Path = cgroups.ROOT) -> int:
    """Bytes that the control groups of a process leave, at most `UNLIMITED`. Arguments: `cgroups.groups`."""
    found = cgroups.groups("memory", listed, root)
    return min((_left(folder, _FILES[version]) for version, folder in found), default=UNLIMITED)


def _left(group: Path, files: _Files) -> int:
    try:
        limit = (group / files.limit).read_text().strip()
        used = int((group / files.used).read_text())
        if limit == "max":
            return UNLIMITED
        return max(0, int(limit) - used + _reclaimable(group, files))
    except (OSError, ValueError):
        return UNLIMITED


def _reclaimable(group: Path, files: _Files) -> int:
    """Bytes of files that were read and are not in use: the kernel takes them back before it refuses."""
    try:
        fields = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return int(fields[files.reclaimable])
    except (OSError, ValueError, KeyError):
        return 0


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


def make_room(needed: int, source: str, say: Callable[[str], None], what: str = "") -> None:
    """Say what will be needed, if there is as much.

    Args:
        needed: bytes.
        source: what it is needed for.
        say: is given the line.
        what: is done with it, where that is not the whole run: " to export it".

    Raises:
        TooLarge: fewer bytes are free.
    """
    refuse_more_than(available(), needed, source)
    say(f"{source}: at most about {mib(needed)} MiB of memory will be needed{what}")


def mib(size: int) -> int:
    """Bytes as MiB, rounded up."""
    return -(-size // MIB)
