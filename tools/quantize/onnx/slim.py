"""A quantized graph without what no runtime reads: in a small model that is a tenth of the file.

Left out are documentation, inferred shapes, names of nodes and constants that nothing reads. Constants
that are equal, as zero points of channels are, are kept once, and inner tensors get short names.
Inputs, outputs and the metadata of the model stay. Zero points stay too, where the operator would do
without: onnxruntime fuses no matrix product then, which costs a third of the speed. The slim file is
used only if it gives the same outputs, bit for bit.
"""

import shutil
from collections.abc import Iterator
from itertools import count
from typing import Any

from tools.quantize.family import Artifact
from tools.quantize.onnx.source import MODEL
from tools.quantize.tensors.sameness import NOT_SLIMMED, same_bits
from tools.quantize.tensors.samples import Samples

NAMED = "named.onnx"  # beside the slim file: the same graph, its tensors named as in the float one

_DIGITS = "abcdefghijklmnopqrstuvwxyz"


def slim(artifact: Artifact, samples: Samples | None) -> Artifact:
    """The artifact, its model slimmed where that is proved to change nothing.

    Args:
        artifact: its model is `NAMED`, which stays where it is but is no file of the result.
        samples: what the two files are compared on; without any, nothing is left out.
    """
    import onnx

    directory = artifact.directory
    thin = Artifact(directory, {MODEL: "model"}, artifact.engine, artifact.parameters)
    notes = list(artifact.notes)
    if samples is not None:
        onnx.save_model(slimmed(onnx.load_model(str(artifact.model))), str(thin.model))
    if samples is None or not same_bits(artifact, thin, samples):
        shutil.copyfile(artifact.model, thin.model)
        notes += [NOT_SLIMMED] if samples is not None else []
    return Artifact(directory, thin.files, thin.engine, thin.parameters, notes)


def slimmed(model: Any) -> Any:
    """A copy of a graph (ModelProto) without what no runtime reads; pure."""
    import onnx

    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.ClearField("doc_string")
    _share_constants(made.graph)
    for graph in _graphs(made.graph):
        _drop_descriptions(graph)
    _shorten_names(made.graph)
    return made


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph and those inside its nodes: branches and bodies of loops."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + [*attribute.graphs]:
                yield from _graphs(inner)


def _share_constants(graph: Any) -> None:
    """Each constant once, and only those that something reads."""
    first: dict[bytes, str] = {}
    names: dict[str, str] = {}
    for tensor in graph.initializer:
        names[tensor.name] = first.setdefault(_content(tensor), tensor.name)
    for inner in _graphs(graph):
        for node in inner.node:
            node.input[:] = [names.get(name, name) for name in node.input]
    outputs = {value.name for value in graph.output}
    read = {name for inner in _graphs(graph) for node in inner.node for name in node.input}
    kept = [t for t in graph.initializer if t.name in read | outputs]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _content(tensor: Any) -> bytes:
    import onnx

    nameless = onnx.TensorProto()
    nameless.CopyFrom(tensor)
    nameless.ClearField("name")
    content: bytes = nameless.SerializeToString(deterministic=True)
    return content


def _drop_descriptions(graph: Any) -> None:
    for field in ("doc_string", "value_info", "quantization_annotation", "metadata_props"):
        graph.ClearField(field)
    for node in graph.node:
        for field in ("name", "doc_string", "metadata_props"):
            node.ClearField(field)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
    for tensor in graph.initializer:
        tensor.ClearField("doc_string")


def _shorten_names(graph: Any) -> None:
    """One short name for each inner tensor, the same in all graphs: what was apart stays apart."""
    edges = {value.name for value in (*graph.input, *graph.output)}
    free = (name for name in _words() if name not in edges)
    names: dict[str, str] = {"": "", **{name: name for name in edges}}

    def short(name: str) -> str:
        if name not in names:
            names[name] = next(free)
        return names[name]

    for inner in _graphs(graph):
        for tensor in inner.initializer:
            tensor.name = short(tensor.name)
        for sparse in inner.sparse_initializer:
            sparse.values.name = short(sparse.values.name)
        for node in inner.node:
            node.input[:] = [short(name) for name in node.input]
            node.output[:] = [short(name) for name in node.output]
        if inner is not graph:
            for value in (*inner.input, *inner.output):
                value.name = short(value.name)


def _words() -> Iterator[str]:
    """a, b, … z, aa, ab, …: shorter ones first."""
    for number in count(1):
        word, rest = "", number
        while rest:
            rest, digit = divmod(rest - 1, len(_DIGITS))
            word = _DIGITS[digit] + word
        yield word
