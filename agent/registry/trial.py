"""The first run of a model on this device, before it is activated; and what any run may take."""

from collections.abc import Mapping

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.engines.worker.limits import BASE_MIB, Limits
from agent.registry.golden import check_golden
from agent.trust.manifest import Manifest
from agent.trust.policy import check_labels, check_tensors

MIB = 1 << 20

MODEL_COPIES = 4  # of a package's bytes while it loads: as they come, parsed, optimised, prepacked


def try_model(manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Load a model, compare its tensors with its manifest's, and run its golden cases.

    Raises:
        BadModel: the engine cannot load it, or its tensors or labels are not those of its manifest.
        EngineMissing: its engine is not installed here.
        GoldenFailed: it does not compute what it must.
    """
    check_labels(manifest)
    session = load_checked(manifest, files)
    try:
        check_golden(manifest, files, session)
    finally:
        session.close()


def load_checked(manifest: Manifest, files: Mapping[str, bytes]) -> Session:
    """A session whose tensors are those of the manifest. Raises BadModel, EngineMissing."""
    options = EngineOptions(manifest.resources.threads, files, manifest.parameters)
    session = load_session(manifest.engine, files[manifest.model_file.path], options)
    check_tensors(manifest, session.inputs, session.outputs)
    return session


def worker_limits(manifest: Manifest, cpus: float = 0.0) -> Limits:
    """What a worker of this model may take: what its author says, and what loading takes beside."""
    size = sum(file.size for file in manifest.files)
    memory_mib = BASE_MIB + manifest.resources.memory_mib + MODEL_COPIES * size // MIB
    return Limits(memory_mib, cpus)
