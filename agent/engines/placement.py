"""Where a model runs: in the daemon, or in a worker process that can end. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

Place: TypeAlias = Literal["inline", "worker"]
Isolation: TypeAlias = Literal["auto", "always", "never"]

#: What these do takes seconds and gigabytes: they run apart from the daemon.
HEAVY_TASKS = frozenset({"text-generation", "speech-recognition"})
HEAVY_ENGINES = frozenset({"genai", "whisper"})

#: From these sizes on a model's memory must be given back whole when it is unloaded, MiB; inside a
#: process the allocator keeps much of it.
HEAVY_FILE_MIB = 64
HEAVY_MEMORY_MIB = 256

#: The manifest's parameter by which a model asks to be isolated. It cannot ask for the opposite.
ASKED = "isolated"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides.

    Attributes:
        isolation: "auto" judges each model, "always" and "never" judge none.
        isolated: names of models that run in a worker, whatever else is said.
    """

    isolation: Isolation = "auto"
    isolated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a model before it is loaded.

    Attributes:
        name, task, engine: of its manifest.
        file_mib: of the model file and its data, MiB.
        memory_mib: that its manifest says a loaded session needs, MiB.
        parameters: of its manifest.
    """

    name: str
    task: str
    engine: str
    file_mib: float
    memory_mib: float
    parameters: Mapping[str, Any]


def place(model: Traits, policy: Policy) -> Place:
    """Where the model runs."""
    if model.name in policy.isolated or policy.isolation == "always":
        return "worker"
    if policy.isolation == "never":
        return "inline"
    return "worker" if _heavy(model) or model.parameters.get(ASKED) is True else "inline"


def _heavy(model: Traits) -> bool:
    return (
        model.task in HEAVY_TASKS
        or model.engine in HEAVY_ENGINES
        or model.file_mib >= HEAVY_FILE_MIB
        or model.memory_mib >= HEAVY_MEMORY_MIB
    )
