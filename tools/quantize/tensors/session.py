"""Running a tensor model over a set, in real values whatever it stores."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import NUMPY_DTYPES, EngineOptions, Session
from agent.engines.catalog import load_session
from agent.engines.quantization import dequantize, quantize
from agent.errors import BadModel, BadRequest
from agent.types import Array, Tensors, TensorSpec
from tools.quantize.arrays import archived
from tools.quantize.family import Artifact, Probe, Progress
from tools.quantize.tensors.samples import Samples

BATCH = 32  # samples at once, where the model allows


def opened(artifact: Artifact, threads: int = 1) -> Session:
    """The model in the engine that devices use. Raises BadModel, EngineMissing."""
    files = {path: (artifact.directory / path).read_bytes() for path in artifact.files}
    name = next(path for path, role in artifact.files.items() if role == "model")
    options = EngineOptions(threads, files, artifact.parameters)
    try:
        return load_session(artifact.engine, files[name], options)
    except BadModel as error:  # an engine is given bytes and knows no file
        place = ": ".join(filter(None, [str(artifact.model), error.where]))
        raise BadModel(error.message, where=place, hint=error.hint) from error


def real_values(samples: Samples, specs: Sequence[TensorSpec]) -> Samples:
    """The set with stored integers turned into what they stand for, by the specs that store them."""
    inputs = {spec.name: _real(samples.inputs[spec.name], spec) for spec in specs}
    return replace(samples, inputs=inputs)


def _real(array: Array, spec: TensorSpec) -> Array:
    if spec.quantization is None or array.dtype.kind == "f":
        return array
    return dequantize(array, spec.quantization)


def feed(spec: TensorSpec, array: Array) -> Array:
    """Values as an input stores them."""
    if spec.quantization is not None and array.dtype.kind == "f":
        return quantize(array, spec.quantization, spec.dtype)
    return array.astype(NUMPY_DTYPES[spec.dtype], copy=False)


def batches(session: Session, samples: Samples, size: int = BATCH) -> Iterator[dict[str, Array]]:
    """What the session takes, a batch at a time; inputs are matched by name, or by place."""
    step = size if all(spec.shape[:1] == (-1,) for spec in session.inputs) else 1
    arrays = matched(session.inputs, samples)
    for begin in range(0, len(samples), step):
        yield {
            spec.name: feed(spec, array[begin : begin + step])
            for spec, array in zip(session.inputs, arrays, strict=True)
        }


def matched(specs: Sequence[TensorSpec], samples: Samples) -> list[Array]:
    """The set's arrays in the order of the inputs.

    A float model and its quantized form may name their inputs differently: where a name is not found,
    the arrays are taken in their order.
    """
    if all(spec.name in samples.inputs for spec in specs):
        return [samples.inputs[spec.name] for spec in specs]
    return list(samples.inputs.values())


def outputs(
    session: Session,
    samples: Samples,
    progress: Progress,
    output: str = "",
    *,
    batch: int = BATCH,
) -> NDArray[np.float64]:
    """One output of every sample, in real values, [n, ...].

    Raises:
        BadRequest: there is no such output.
    """
    spec = output_spec(session, output)
    parts = []
    done = 0
    for tensors in batches(session, samples, batch):
        result = session.run(tensors)[spec.name]
        parts.append(dequantize(result, spec.quantization) if spec.quantization else result)
        done += len(next(iter(tensors.values())))
        progress("Running", done / len(samples))
    return np.concatenate(parts).astype(np.float64)


def output_spec(session: Session, name: str) -> TensorSpec:
    """The output that decides: the named one, or the first."""
    if not name:
        return session.outputs[0]
    for spec in session.outputs:
        if spec.name == name:
            return spec
    known = ", ".join(spec.name for spec in session.outputs)
    raise BadRequest(f'there is no output "{name[:60]}"', hint=f"The outputs are: {known}")


def one(session: Session, samples: Samples) -> Tensors:
    """The first sample, as the session takes it."""
    return next(batches(session, samples, 1))


def probe(artifact: Artifact, samples: Samples) -> Probe:
    """One inference of the first sample; its tensors are kept beside the artifact for the child."""
    session = opened(artifact)
    try:
        tensors = one(session, samples)
    finally:
        session.close()
    place = artifact.directory.parent / f"{artifact.directory.name}.probe.npz"
    # With a prefix: "file" is a name that savez keeps for itself.
    place.write_bytes(archived({f"in/{name}": array for name, array in tensors.items()}))
    return Probe("tools.quantize.probes:tensor", {"inputs": str(place)})
