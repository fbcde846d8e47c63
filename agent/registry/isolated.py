"""A model's trial in a process of its own, with limits on its memory and its time.

A file that passes every signature may still crash a runtime, hang it or eat the memory of the
device. In a process of its own it ends that process, and the daemon says why the model is refused.
"""

import os
from collections.abc import Mapping
from typing import Any

from agent.engines.worker.process import Job, WorkerProcess
from agent.engines.worker.program import Program
from agent.errors import BadModel, EngineFailed, TooSlow, WorkerDied
from agent.registry.state import MANIFEST
from agent.registry.trial import try_model, worker_limits
from agent.trust.manifest import Manifest, parse_manifest

TRIAL_S = 120.0  # for loading the model and running all its golden cases

_HINT = "Nothing was activated"


class Trial(Program):
    """Stands if the model passes its trial."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        del options
        try_model(parse_manifest(files[MANIFEST]), files)


def try_isolated(
    manifest: Manifest, files: Mapping[str, bytes], *, limit_s: float = TRIAL_S
) -> None:
    """As `try_model`, in a child process.

    Raises:
        BadModel: also when the model crashes the runtime, takes too long or too much memory, or says
            itself that it needs more than the device has.
        EngineMissing, GoldenFailed: as `try_model`.
    """
    check_room(manifest, _memory_mib())
    job = Job(
        name=str(manifest.ref),
        program=f"{__name__}:{Trial.__name__}",
        limits=worker_limits(manifest),
        start_s=limit_s,
    )
    try_in_process(job, files)


def check_room(manifest: Manifest, memory_mib: int) -> None:
    """Refuse a model that needs more memory than there is, whatever else is loaded.

    Raises:
        BadModel: both figures are named.
    """
    needed = manifest.resources.memory_mib
    if needed > memory_mib:
        message = f"it needs {needed} MiB of memory, this device has {memory_mib} MiB"
        hint = f"{_HINT}; package it with a smaller window, or choose a smaller model"
        raise BadModel(message, where=str(manifest.ref), hint=hint)


def _memory_mib() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20


def try_in_process(job: Job, files: Mapping[str, bytes]) -> None:
    """Start a trial's process and turn its end into a verdict."""
    try:
        WorkerProcess(job, files).close()
    except TooSlow as error:
        message = f"its trial run took longer than {job.start_s:g} s"
        raise BadModel(message, where=job.name, hint=_HINT) from error
    except WorkerDied as error:
        message = (
            f"in its trial run {error.message}: it crashes the runtime or takes too much memory"
        )
        raise BadModel(message, where=job.name, hint=_HINT) from error
    except EngineFailed as error:
        message = f"its trial run failed: {error.message}"
        raise BadModel(message, where=job.name, hint=_HINT) from error
