"""Which engines exist, and which can run here.

A table of names, so that an engine's library is imported when the first model needs it and not
before: the agent starts, and `doctor` answers, with no engine installed at all.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, cast

import numpy as np

from agent.engines.base import EngineOptions, Session
from agent.errors import AgentError, BadModel, EngineMissing

if TYPE_CHECKING:
    from agent.engines.isolated import IsolatedSession


@dataclass(frozen=True, slots=True)
class Engine:
    """Where an engine is and what it needs.

    Attributes:
        target: ``module:Class`` of its Session.
        extra: the extra of this distribution that installs its library.
        libraries: distributions that can serve it, the preferred one first, each with its module.
        isolated: ``module:Class`` of its session over a worker; empty where there is none.
    """

    target: str
    extra: str
    libraries: Mapping[str, str]
    isolated: str = "agent.engines.isolated:IsolatedSession"


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """Whether an engine can run here.

    Attributes:
        installed: it can.
        detail: the library and its version, or what is wrong.
        mend: the command that puts it right; empty when all is well.
    """

    installed: bool
    detail: str
    mend: str = ""


ENGINES: Mapping[str, Engine] = {
    "onnx": Engine("agent.engines.onnx:OnnxSession", "onnx", {"onnxruntime": "onnxruntime"}),
    "tflite": Engine(
        "agent.engines.tflite:TfliteSession",
        "tflite",
        {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"},
    ),
    "genai": Engine(
        "agent.engines.genai:GenAiSession",
        "slm",
        {"onnxruntime-genai": "onnxruntime_genai"},
        isolated="agent.engines.isolated_text:IsolatedTextSession",
    ),
    "whisper": Engine(
        "agent.engines.whisper:WhisperSession",
        "speech",
        {"faster-whisper": "faster_whisper"},
        isolated="agent.engines.isolated_speech:IsolatedSpeechSession",
    ),
}


def load_session(engine: str, model: bytes, options: EngineOptions) -> Session:
    """A session over the bytes of a model file, which the caller has verified.

    Raises:
        EngineMissing: the engine's library is not installed, or cannot work here.
        BadModel: no such engine, or the engine cannot load the file.
    """
    entry = ENGINES.get(engine)
    if entry is None:
        raise BadModel(f'there is no engine "{engine}"', hint=f"Engines: {', '.join(ENGINES)}")
    status = _status(entry)
    if not status.installed:
        raise EngineMissing(status.detail, where=f"engine {engine}", hint=f"Run: {status.mend}")
    if not model:
        raise BadModel("the model file is empty")
    try:
        return _session_class(entry)(model, options)
    except AgentError:
        raise
    except ImportError as error:
        raise EngineMissing(
            f"the library cannot be loaded: {error}", where=f"engine {engine}", hint=_mend(entry)
        ) from error


def available() -> dict[str, EngineStatus]:
    """Every engine by name, judged without importing any library."""
    return {name: _status(entry) for name, entry in ENGINES.items()}


def library(entry: Engine) -> tuple[str, str] | None:
    """The distribution that will serve the engine and its module, or None when none is installed."""
    for distribution, module in entry.libraries.items():
        if find_spec(module) is not None:
            return distribution, module
    return None


def judge(distribution: str, version: str, numpy_version: str) -> str:
    """What is wrong with a library that is installed; empty when it can work (pure)."""
    if distribution == "tflite-runtime" and not numpy_version.startswith("1."):
        return (
            f"tflite-runtime {version} was built for NumPy 1 and fails with NumPy {numpy_version}, "
            "although it can be imported"
        )
    return ""


def _status(entry: Engine) -> EngineStatus:
    found = library(entry)
    if found is None:
        names = " or ".join(entry.libraries)
        return EngineStatus(False, f"{names} is not installed", _mend(entry))
    version = _version(found[0])
    problem = judge(found[0], version, np.__version__)
    if problem:
        return EngineStatus(False, problem, _mend(entry))
    return EngineStatus(True, f"{found[0]} {version}")


def _mend(entry: Engine) -> str:
    return f"pip install 'edge-agent[{entry.extra}]'"


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def isolating_class(engine: str) -> "type[IsolatedSession] | None":
    """The session that runs an engine's models in a worker; None where there is none."""
    entry = ENGINES.get(engine)
    if entry is None or not entry.isolated:
        return None
    module, _, name = entry.isolated.partition(":")
    return cast("type[IsolatedSession]", getattr(import_module(module), name))


def _session_class(entry: Engine) -> Callable[[bytes, EngineOptions], Session]:
    module, _, name = entry.target.partition(":")
    return cast("Callable[[bytes, EngineOptions], Session]", getattr(import_module(module), name))
