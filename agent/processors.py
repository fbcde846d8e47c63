"""How many processors this process may use at once.

More threads than that do not only not help: those of a runtime wait for each other awake, and a model
on one processor with two threads takes twice the time.
"""

import math
import os
from pathlib import Path

from agent import cgroups


def usable() -> int:
    """Those that it may run on (a cpuset, ``taskset``, a worker's limit), or fewer by a quota; at least 1."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, math.ceil(min(allowed, quota(cgroups.own()))))


def quota(listed: str, root: Path = cgroups.ROOT) -> float:
    """Processors that control groups allow on average: the least of them; infinite without a limit.

    Args:
        listed: what `cgroups.own` says.
        root: where groups are mounted.
    """
    found = [_quota(version, folder) for version, folder in cgroups.groups("cpu", listed, root)]
    return min(found, default=math.inf)


def _quota(version: int, group: Path) -> float:
    try:
        if version == 2:
            time, period = (group / "cpu.max").read_text().split()
        else:
            time = (group / "cpu.cfs_quota_us").read_text().strip()
            period = (group / "cpu.cfs_period_us").read_text()
        return math.inf if time in {"max", "-1"} else int(time) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return math.inf
