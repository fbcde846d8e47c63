"""From what a person has to one ONNX file: checked, whole, and runnable here."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agent.engines.base import DTYPE_NAMES, load_error
from agent.engines.onnx import MISSING_OPERATOR, OPERATOR_HINT
from agent.errors import BadModel, NotFound, TooLarge
from agent.types import TensorSpec
from tools.quantize import pickles
from tools.quantize.family import Artifact
from tools.quantize.onnx.footprint import Footprint, footprint
from tools.quantize.package import digest
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import opened

MODEL = "model.onnx"
LARGEST = 2**31 - 1  # bytes of a file without external data, a limit of protocol buffers


def find(source: Path) -> Path:
    """The ONNX file that a source names: itself, or the one in a folder.

    Raises:
        NotFound: there is no such file or folder.
        BadModel: it is a pickle, or a folder without exactly one ONNX file.
    """
    if not source.exists():
        raise NotFound("no such file or folder", where=str(source))
    if source.is_file():
        pickles.refuse(source)
        return source
    found = sorted({*source.glob("*.onnx"), *source.glob("onnx/*.onnx")})
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(path.name for path in found[:5])
        raise BadModel(f"several ONNX files: {names}", where=str(source), hint="Name one of them")
    pickles.refuse_in(source)
    raise BadModel(
        "the folder holds no model",
        where=str(source),
        hint="Expected an ONNX file; a Hugging Face folder has config.json and model.safetensors",
    )


def size(path: Path) -> int:
    """Bytes of a graph with the weights that it keeps beside itself."""
    return sum(file.stat().st_size for file in files(path))


def digests(path: Path) -> list[str]:
    """SHA-256 of a graph and of each file of weights that it keeps beside itself."""
    return [digest(file) for file in files(path)]


def files(path: Path) -> list[Path]:
    """A graph, and the files of weights that it keeps beside itself, as far as they are there."""
    import onnx

    if path.stat().st_size > LARGEST:
        return [path]
    try:
        graph = onnx.load_model(str(path), load_external_data=False).graph
    except Exception:  # noqa: BLE001 - `bring` says what is wrong with it
        return [path]
    places = {e.value for t in graph.initializer for e in t.external_data if e.key == "location"}
    beside = [path.parent / place for place in sorted(places)]
    return [path, *(file for file in beside if file.is_file())]


def activations(path: Path, samples: Samples) -> Footprint:
    """What a sample takes in memory while it runs; nothing where the graph cannot be read."""
    import onnx

    if path.stat().st_size > LARGEST:
        return Footprint()
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception:  # noqa: BLE001 - `bring` says what is wrong with it
        return Footprint()
    return footprint(model, {name: array.shape[1:] for name, array in samples.inputs.items()})


def bring(path: Path, directory: Path) -> Artifact:
    """The graph as one file in a directory, with its weights inside, loaded once to see that it runs.

    Raises:
        BadModel: it is no ONNX, or the runtime lacks one of its operators; the node is named.
        TooLarge: it is too large for one file.
    """
    import onnx

    if size(path) > LARGEST:
        raise TooLarge(
            f"{size(path)} bytes with its weights, {LARGEST} fit into one ONNX file",
            where=str(path),
        )
    model = read(path)
    if any(tensor.HasField("data_location") for tensor in model.graph.initializer):
        onnx.save_model(model, str(directory / MODEL))
    else:
        shutil.copyfile(path, directory / MODEL)
    artifact = Artifact(directory, {MODEL: "model"}, "onnx")
    check_runs(artifact, str(path))
    return artifact


def read(path: Path) -> Any:
    """A graph with its weights. Raises BadModel."""
    import onnx

    try:
        model = onnx.load_model(str(path))
    except FileNotFoundError as error:
        raise BadModel(
            f"a file of its weights is missing: {error.filename}", where=str(path)
        ) from error
    except Exception as error:
        raise _no_onnx(path, error) from error
    try:
        onnx.checker.check_model(model)
    except Exception as error:
        raise _unchecked(path, model, error) from error
    return model


def _unchecked(path: Path, model: Any, error: Exception) -> BadModel:
    """What the checker refuses; an operator that no runtime has, as the runtime would say it."""
    refused = load_error(error, "onnx", MISSING_OPERATOR, OPERATOR_HINT)
    if not refused.hint:
        return _no_onnx(path, error)
    return _at_node(refused, model.graph, str(path))


def specs(path: Path) -> list[TensorSpec]:
    """The graph's inputs, read without its weights. Raises BadModel."""
    import onnx

    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except Exception as error:
        raise _no_onnx(path, error) from error
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [_spec(path, value) for value in model.graph.input if value.name not in constants]
    if not given:
        raise BadModel("no ONNX model: the graph has no input", where=str(path))
    return given


def _spec(path: Path, value: Any) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    dtype = DTYPE_NAMES.get(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type or 1))
    if dtype is None or not value.type.HasField("tensor_type"):
        raise BadModel("is of a type that cannot be carried", where=f"{path}: input {value.name}")
    shape = tuple(d.dim_value if d.dim_value > 0 else -1 for d in tensor.shape.dim)
    return TensorSpec(value.name, dtype, shape)


def _no_onnx(path: Path, error: Exception) -> BadModel:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return BadModel(f"no ONNX model: {lines[0][:200]}", where=str(path))


def check_runs(artifact: Artifact, where: str) -> None:
    """Load a graph in the runtime that devices use.

    Raises:
        BadModel: it cannot be loaded; for a lacking operator, with the first node that has it.
    """
    import onnx

    try:
        opened(artifact).close()
    except BadModel as error:
        graph = onnx.load_model(str(artifact.model)).graph  # `read` could
        raise _at_node(error, graph, where) from error


def _at_node(error: BadModel, graph: Any, where: str) -> BadModel:
    """The error with the first node whose operator it names, if it names one."""
    place = where
    if "lacks the operator" in error.message:
        operator = error.message.rsplit(" ", 1)[-1].rsplit(".", 1)[-1].rsplit(":", 1)[-1]
        place = next((f"{where}: node {name}" for name in _nodes(graph, operator)), where)
    return BadModel(error.message, where=place, hint=error.hint)


def _nodes(graph: Any, operator: str) -> Iterator[str]:
    """Names of the nodes of an operator, in the branches of others too."""
    for index, node in enumerate(graph.node):
        if node.op_type == operator:
            yield node.name or f"#{index} ({', '.join(node.output)})"
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner, operator)
