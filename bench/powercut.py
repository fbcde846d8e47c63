"""What a power cut leaves of an update: the old version or the new one, and a device that can be mended.

A child process installs, activates or takes in new keys, and is killed (SIGKILL, by ptrace) at a
system call drawn at random from all that the operation makes. Then a new process must be able to
open the model in its old or its new version, verified, and must be able to install the new one.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from agent.errors import AgentError
from agent.registry import Registry
from agent.types import ModelRef
from bench.report import Row, Table
from tests.support.cuts import run_until
from tests.support.fleet import Fleet, make_fleet

Operation = Callable[[Registry], object]

OLD, NEW = ModelRef("negator", "1.0.0"), ModelRef("negator", "1.1.0")


@dataclass
class Outcome:
    """What was counted.

    Attributes:
        cuts: kills that hit the operation before its end.
        neither: cuts after which neither version could be opened.
        unmended: cuts after which the new version could not be installed.
        left: which version answered, by how often.
        calls: stops at system calls of each operation, run to its end.
    """

    cuts: int = 0
    neither: int = 0
    unmended: int = 0
    left: Counter[str] = field(default_factory=Counter)
    calls: dict[str, int] = field(default_factory=dict)


def run(quick: bool) -> Table:
    """500 cuts, or 30 when `quick`."""
    wanted = 30 if quick else 500
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="bench-powercut-") as directory:
        outcome = measure(Path(directory), wanted, seed=1)
    left = ", ".join(f"{version} {count}" for version, count in sorted(outcome.left.items()))
    calls = ", ".join(f"{name} {count}" for name, count in outcome.calls.items())
    return Table(
        f"{outcome.cuts} kills at random system calls of an update",
        [
            _zero("neither the old nor the new version", outcome.neither),
            _zero("could not be updated afterwards", outcome.unmended),
            Row("seconds", time.monotonic() - began, "s"),
        ],
        [f"Left active: {left}.", f"Entries to and exits of calls, in one run: {calls}."],
    )


def _zero(name: str, value: int) -> Row:
    return Row(name, value, "cuts", target="0", ok=value == 0)


def measure(directory: Path, cuts: int, seed: int) -> Outcome:
    """Cut so often, the operations in turn; the calls follow from `seed`."""
    fleet = prepare(directory)
    outcome, draw = Outcome(), random.Random(seed)
    operations = _operations(fleet)
    for name, (template, operation) in operations.items():
        registry = _fresh(fleet, template)
        outcome.calls[name] = run_until(lambda o=operation, r=registry: o(r))[1]
    names = list(operations)
    while outcome.cuts < cuts:
        name = names[outcome.cuts % len(names)]
        template, operation = operations[name]
        registry = _fresh(fleet, template)
        stop = draw.randrange(outcome.calls[name])
        ended, _ = run_until(lambda o=operation, r=registry: o(r), stop)
        if not ended:
            outcome.cuts += 1
            _examine(fleet, outcome)
    return outcome


def prepare(directory: Path) -> Fleet:
    """A device with the old version, one with both, and a repository that has since changed keys."""
    fleet = make_fleet(directory)
    fleet.publish("1.0.0")
    fleet.install()
    shutil.copytree(fleet.models, directory / "old")
    fleet.publish("1.1.0")
    fleet.install()
    shutil.copytree(fleet.models, directory / "both")
    fleet.repository.rotate_key("targets")
    fleet.repository.rotate_key("root")
    return fleet


def _operations(fleet: Fleet) -> dict[str, tuple[Path, Operation]]:
    old, both = fleet.directory / "old", fleet.directory / "both"
    return {
        "install": (old, lambda registry: registry.install(fleet.address, "negator")),
        "activate": (both, lambda registry: registry.activate(OLD)),
        "refresh": (both, lambda registry: registry.refresh(fleet.address)),
        "remove": (both, lambda registry: registry.remove(OLD)),
    }


def _fresh(fleet: Fleet, template: Path) -> Registry:
    shutil.rmtree(fleet.models)
    shutil.copytree(template, fleet.models, symlinks=True)
    return fleet.restarted()


def _examine(fleet: Fleet, outcome: Outcome) -> None:
    try:
        outcome.left[fleet.restarted().open("negator").ref.version] += 1
    except AgentError as error:
        print(f"neither: {error}")
        outcome.neither += 1
    try:
        assert fleet.restarted().install(fleet.address, "negator").ref == NEW
        assert fleet.restarted().open("negator").ref == NEW
    except (AgentError, AssertionError) as error:
        print(f"unmended: {error}")
        outcome.unmended += 1
