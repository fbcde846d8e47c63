"""The program of ordinary models: a session of the catalog, asked to run."""

import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import msgspec

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.engines.worker.program import Answer, Program
from agent.types import Tensors

RUN = "run"


class TensorOptions(msgspec.Struct, frozen=True):
    """Which file of the package, and how.

    Attributes:
        engine: of the catalog.
        model: path of the model file.
        threads: processor threads for one run.
        parameters: of the manifest.
    """

    engine: str
    model: str
    threads: int = 1
    parameters: dict[str, Any] = {}


class TensorProgram(Program):
    """Runs a session; what it says of itself is the session's inputs and outputs."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        chosen = msgspec.convert(options, TensorOptions)
        engine_options = EngineOptions(chosen.threads, files, chosen.parameters)
        self.session = load_session(chosen.engine, files[chosen.model], engine_options)
        self.description = msgspec.to_builtins((self.session.inputs, self.session.outputs))
        self._turn = nullcontext() if self.session.parallel else threading.Lock()

    def call(self, method: str, payload: Any, tensors: Tensors) -> Answer:
        """One run of the session."""
        if method != RUN:
            return super().call(method, payload, tensors)
        with self._turn:
            return None, self.session.run(tensors)
