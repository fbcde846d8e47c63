"""From a verified package to a model that can be asked: in the daemon, or in a worker."""

from collections.abc import Callable, Mapping

import msgspec

from agent.engines.base import Session
from agent.engines.catalog import isolating_class
from agent.engines.placement import Place, Policy, Traits, place
from agent.engines.settings import ServingSettings
from agent.registry.golden import golden_inputs
from agent.registry.loaded import LoadedModel
from agent.registry.registry import Registry, VerifiedModel
from agent.registry.trial import load_checked, worker_limits
from agent.trust.manifest import Manifest
from agent.trust.policy import check_tensors

MIB = 1 << 20

ENCODING = frozenset({"embedding", "text-classification"})  # tasks that read text themselves

NEEDED = ("model", "data")  # roles of files that a worker is given


def placed(manifest: Manifest, policy: Policy) -> Place:
    """Where a model runs here."""
    if isolating_class(manifest.engine) is None:
        return "inline"
    size = sum(file.size for file in manifest.files if file.role in NEEDED)
    memory_mib = manifest.resources.memory_mib
    traits = Traits(
        manifest.name, manifest.task, manifest.engine, size / MIB, memory_mib, manifest.parameters
    )
    return place(traits, policy)


def load(registry: Registry, model: VerifiedModel, settings: ServingSettings) -> LoadedModel:
    """Load a verified package.

    Raises:
        BadModel, EngineMissing: it cannot run here.
        WorkerDied, TooSlow: its worker ended, or took too long, while loading.
    """
    manifest = model.manifest
    if placed(manifest, settings.policy) == "inline":
        session = load_checked(manifest, model.files)
    else:
        session = _isolated(registry, model, settings)
    try:
        example = golden_inputs(manifest, model.files)
        return LoadedModel(manifest, session, example, companions(manifest, model.files))
    except BaseException:
        session.close()
        raise


def companions(manifest: Manifest, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """What stays in memory beside the session: an encoder's data files, nothing of other models."""
    if manifest.task not in ENCODING:
        return {}
    return {file.path: files[file.path] for file in manifest.files if file.role == "data"}


def _isolated(registry: Registry, model: VerifiedModel, settings: ServingSettings) -> Session:
    from agent.engines.worker.process import Job
    from agent.engines.worker.supervisor import Worker

    manifest = model.manifest
    cls = isolating_class(manifest.engine)
    assert cls is not None  # or it were not placed there
    job = Job(
        name=str(manifest.ref),
        program=cls.program,
        options=_options(manifest),
        limits=worker_limits(manifest, settings.worker_cpus),
        lanes=settings.worker_requests,
        patience_s=settings.worker_timeout_s,
    )
    session = cls(Worker(job, _files(registry, model)))
    try:
        check_tensors(manifest, session.inputs, session.outputs)
    except BaseException:
        session.close()
        raise
    return session


def _options(manifest: Manifest) -> dict[str, object]:
    return {
        "engine": manifest.engine,
        "model": manifest.model_file.path,
        "threads": manifest.resources.threads,
        "parameters": msgspec.to_builtins(manifest.parameters),
    }


def _files(registry: Registry, model: VerifiedModel) -> Callable[[], Mapping[str, bytes]]:
    """The files for each start of a worker: those at hand for the first, verified anew after that."""
    at_hand = [model.files]
    manifest = model.manifest
    wanted = [file.path for file in manifest.files if file.role in NEEDED]

    def files() -> Mapping[str, bytes]:
        found = at_hand.pop() if at_hand else registry.open(*_named(manifest)).files
        return {path: found[path] for path in wanted}

    return files


def _named(manifest: Manifest) -> tuple[str, str]:
    return manifest.name, manifest.version
