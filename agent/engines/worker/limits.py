"""What a worker may take, and how it is held to it: a cgroup where there is one, rlimits otherwise."""

import contextlib
import itertools
import os
import resource
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent import cgroups

#: What the interpreter and the runtimes map for themselves, whatever the model, MiB.
BASE_MIB = 768

#: The kernel, when memory runs out, ends a worker before the daemon: -1000 never to 1000 first.
OUT_OF_MEMORY_SCORE = 600

_PERIOD_US = 100_000
_numbers = itertools.count(1)


class Limits(msgspec.Struct, frozen=True):
    """Bounds of one worker.

    Attributes:
        memory_mib: of its own memory, MiB, 0 for all; what is shared with the daemon is not counted.
        cpus: processors that it may use at once, on average; 0 for all.
    """

    memory_mib: int = BASE_MIB + 256
    cpus: float = 0.0


def apply(limits: Limits) -> None:
    """Hold this process to its limits; called by the worker itself, before anything large."""
    if limits.memory_mib:
        memory = limits.memory_mib * 2**20
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if limits.cpus:
        allowed = sorted(os.sched_getaffinity(0))
        # Different workers begin at different processors.
        start = os.getpid() % len(allowed)
        count = max(1, round(limits.cpus))
        os.sched_setaffinity(0, (allowed[start:] + allowed[:start])[:count])
    with contextlib.suppress(OSError):  # an ordinary user may raise it, some containers may not
        Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))


@dataclass(frozen=True, slots=True)
class Group:
    """A cgroup (version 2) of one worker.

    Attributes:
        path: its directory.
    """

    path: Path

    def admit(self, process: int) -> None:
        """Put a process into it."""
        (self.path / "cgroup.procs").write_text(str(process))

    def remove(self) -> None:
        """After its last process has ended. Idempotent."""
        with contextlib.suppress(OSError):
            self.path.rmdir()


def make_group(limits: Limits, parent: Path | None) -> Group | None:
    """A cgroup with these limits; None where that cannot be had, so that rlimits are all there is."""
    if parent is None:
        return None
    group = Group(parent / f"worker-{os.getpid()}-{next(_numbers)}")
    try:
        group.path.mkdir()
        (group.path / "memory.max").write_text(str(limits.memory_mib * 2**20))
        (group.path / "memory.swap.max").write_text("0")
        if limits.cpus:
            quota = max(1000, round(limits.cpus * _PERIOD_US))
            (group.path / "cpu.max").write_text(f"{quota} {_PERIOD_US}")
    except OSError:
        group.remove()
        return None
    return group


def delegated(own: str | None = None, root: Path = cgroups.ROOT) -> Path | None:
    """The cgroup below which this process may make others, with the controllers that are needed.

    systemd gives one to a service with Delegate=memory and DelegateSubgroup=daemon: the service runs
    in the group "daemon", since a group with processes of its own cannot limit groups below it.

    Args:
        own: text of /proc/self/cgroup, when it is not to be read.
        root: where cgroups are mounted.
    """
    text = cgroups.own() if own is None else own
    try:
        path = next(line[3:] for line in text.splitlines() if line.startswith("0::"))
        parent = (root / path.lstrip("/")).parent
        if not path.endswith("/daemon"):
            return None
        (parent / "cgroup.subtree_control").write_text("+memory +cpu")
    except (OSError, StopIteration):
        return None
    return parent
