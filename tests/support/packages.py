"""Model packages for tests: a manifest from what the model file declares, golden cases from a run."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from agent.engines.base import NUMPY_DTYPES, EngineOptions, Session
from agent.engines.catalog import load_session
from agent.trust.digest import sha256_hex
from agent.types import Array, TensorSpec
from tests.support.onnx_model import onnx_model, weights


def write_package(
    directory: Path,
    model: bytes,
    *,
    engine: str = "onnx",
    name: str = "negator",
    version: str = "1.0.0",
    golden: Mapping[str, bytes] | None = None,
    extra: str = "",
) -> Path:
    """A package around a model's bytes that its engine can load; the directory is returned.

    Args:
        directory: made by this.
        model: the model file's bytes.
        engine: that loads it.
        name, version: of the manifest.
        golden: ``{"golden.npz": bytes}`` instead of what the model computes; {} for none.
        extra: TOML put at the end of the manifest.
    """
    session = load_session(engine, model, EngineOptions())
    files = {f"model.{engine}": model}
    files |= {"golden.npz": golden_bytes(session)} if golden is None else golden
    text = manifest_text(session, files, engine=engine, name=name, version=version)
    session.close()
    directory.mkdir(parents=True, exist_ok=True)
    for path, data in files.items():
        (directory / path).write_bytes(data)
    (directory / "model.toml").write_text(text + extra)
    return directory


def small_package(directory: Path, *, version: str = "1.0.0", name: str = "negator") -> Path:
    """A package of a few hundred bytes that computes y = -x, with a model file of its own."""
    sizes = (-1, 4 + sum(int(part) for part in version.split(".") if part.isdecimal()))
    return write_package(directory, onnx_model(shape=sizes), name=name, version=version)


def mlperf_package(directory: Path, tflite: Path, *, name: str, version: str = "1.0.0") -> Path:
    """A package around one of the MLPerf Tiny models."""
    return write_package(
        directory, tflite.read_bytes(), engine="tflite", name=name, version=version
    )


def golden_bytes(session: Session, *, seed: int = 7, batch: int = 1) -> bytes:
    """A golden archive: random inputs and what the session makes of them."""
    random = np.random.default_rng(seed)
    inputs = {spec.name: random_tensor(spec, random, batch) for spec in session.inputs}
    outputs = session.run(inputs)
    arrays = {f"random/in/{key}": value for key, value in inputs.items()}
    arrays |= {f"random/out/{key}": value for key, value in outputs.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def random_tensor(spec: TensorSpec, random: np.random.Generator, batch: int = 1) -> Array:
    """A tensor that fits a spec, free sizes as given."""
    dtype = NUMPY_DTYPES[spec.dtype]
    shape = [batch if size == -1 else size for size in spec.shape]
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def manifest_text(
    session: Session, files: Mapping[str, bytes], *, engine: str, name: str, version: str
) -> str:
    """The TOML of a manifest for a model that `session` has loaded."""
    head = f'format = 1\nname = "{name}"\nversion = "{version}"\ntask = "tensor"\n'
    parts = [head + f'engine = "{engine}"\nsummary = "For tests"\nlicense = "Apache-2.0"\n']
    parts += [_file(path, data) for path, data in files.items()]
    parts += [_tensor("inputs", spec) for spec in session.inputs]
    parts += [_tensor("outputs", spec) for spec in session.outputs]
    if "golden.npz" in files:
        tolerance = 1e-3 if session.outputs[0].dtype == "FP32" else 1.0
        parts.append(f'[[golden]]\nname = "random"\nfile = "golden.npz"\ntolerance = {tolerance}\n')
    return "\n".join(parts)


def _file(path: str, data: bytes) -> str:
    role = "golden" if path.endswith(".npz") else "model"
    digest = sha256_hex(data)
    return f'[[files]]\npath = "{path}"\nrole = "{role}"\nsha256 = "{digest}"\nsize = {len(data)}\n'


def _tensor(way: str, spec: TensorSpec) -> str:
    q = spec.quantization
    text = f'[[{way}]]\nname = "{spec.name}"\ndtype = "{spec.dtype}"\nshape = {list(spec.shape)}\n'
    if q:
        text += f"quantization = {{ scale = {q.scale!r}, zero_point = {q.zero_point} }}\n"
    return text


def large_package(
    directory: Path, *, version: str = "1.0.0", name: str = "negator", side: int = 600
) -> Path:
    """A package with `side`² float32 weights; the middle of them follows from the version."""
    values = np.random.default_rng(1).standard_normal((side, side), np.float32)
    values[side // 2] = np.random.default_rng(list(version.encode())).standard_normal(side)
    part = weights("w", (side, side), values.tobytes())
    model = onnx_model("MatMul", shape=(-1, side), inputs=("x", "w"), initializers=part)
    return write_package(directory, model, name=name, version=version)
