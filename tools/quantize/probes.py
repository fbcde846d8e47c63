"""What one unit of work is, for the process that times it."""

import importlib
from collections.abc import Callable

import numpy as np

from agent.engines import catalog
from agent.engines.base import EngineOptions
from tools.quantize.family import Artifact


def prepare(artifact: Artifact) -> None:
    """Load the engine's library, so that its memory is not counted as the model's."""
    engine = catalog.ENGINES.get(artifact.engine)
    found = catalog.library(engine) if engine else None
    if found:
        importlib.import_module(found[1])


def tensor(artifact: Artifact, inputs: str) -> Callable[[], object]:
    """One inference of a tensor model.

    Args:
        artifact: the model.
        inputs: path of an npz file with one array for each input, ``in/<name>``.
    """
    files = {path: (artifact.directory / path).read_bytes() for path in artifact.files}
    options = EngineOptions(1, files, artifact.parameters)
    name = next(path for path, role in artifact.files.items() if role == "model")
    session = catalog.load_session(artifact.engine, files[name], options)
    with np.load(inputs, allow_pickle=False) as arrays:
        feed = {key.removeprefix("in/"): array for key, array in arrays.items()}
    return lambda: session.run(feed)
