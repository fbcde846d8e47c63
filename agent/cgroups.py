"""The control groups that a process is in: a container's, a unit's, a worker's."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")


def own() -> str:
    """What ``/proc/self/cgroup`` says; empty where the kernel has no groups."""
    try:
        return Path("/proc/self/cgroup").read_text()
    except OSError:
        return ""


def groups(controller: str, listed: str, root: Path = ROOT) -> Iterator[tuple[int, Path]]:
    """The version and the folder of each group whose limits hold: the process's own, and those that it is in.

    Args:
        controller: ``memory`` or ``cpu``.
        listed: what `own` says.
        root: where groups are mounted. In a container that may be the container's own group, and
            paths that lead to it from outside are then not there: a folder may not exist.
    """
    for line in listed.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":  # version 2; where both are mounted, in a folder of its own
            for base in (root, root / "unified"):
                yield from ((2, folder) for folder in _upwards(base, path))
        elif controller in controllers.split(","):
            yield from ((1, folder) for folder in _upwards(root / controller, path))


def _upwards(base: Path, path: str) -> set[Path]:
    group = base / path.lstrip("/")
    parents = [folder for folder in group.parents if folder.is_relative_to(base)]
    return {group, *parents, base}
