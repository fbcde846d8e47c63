"""A TensorFlow Lite file with only what a runtime reads, and one with float weights to compare with.

Left out are the ranges that the converter measured (minimum and maximum of every channel: the scales
were made of them), names of inner tensors, the description and constants that nothing reads. Zero
points of channels, eight bytes each and all of them 0, are kept once for all tensors of a length, as
the runtime asks for as many as there are scales. A bias keeps the scales of its channels too, though
they follow from those of input and weights: without them XNNPACK leaves the layer to slower kernels.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from agent.types import Array

_INSIDE = 1  # larger offsets of a constant say that it lies behind the graph


def slimmed(data: bytes) -> bytes:
    """The file without what no runtime reads; as it is where constants lie behind the graph."""
    from tools.quantize.tflite import flatbuffer

    model = flatbuffer.unpacked(data)
    if any(buffer.offset > _INSIDE for buffer in model.buffers):
        return data
    model.description = None
    for graph in model.subgraphs:
        edges = {*_indices(graph.inputs), *_indices(graph.outputs)}
        for index, tensor in enumerate(graph.tensors):
            tensor.name = tensor.name if index in edges else None
            tensor.quantization = _needed(tensor.quantization)
    _drop_unread(model)
    return flatbuffer.packed(model)


def with_float_weights(data: bytes) -> bytes:
    """A float file whose stored 8-bit weights, as layers of float inputs read them, are float too."""
    from tools.quantize.tflite import flatbuffer

    model = flatbuffer.unpacked(data)
    for graph in model.subgraphs:
        for index in _stored_small(graph, flatbuffer.FLOAT32, flatbuffer.INT8):
            tensor = graph.tensors[index]
            constant = model.buffers[tensor.buffer].data
            if constant is None:
                continue
            tensor.buffer = len(model.buffers)
            model.buffers.append(flatbuffer.float_constant(_real(tensor, constant)))
            tensor.type, tensor.quantization = flatbuffer.FLOAT32, None
    _drop_unread(model)
    return flatbuffer.packed(model)


def _indices(vector: Any) -> Iterator[int]:
    return (int(index) for index in (() if vector is None else vector) if index >= 0)


def _needed(quantization: Any) -> Any:
    if quantization is None or (quantization.scale is None and quantization.details is None):
        return None
    quantization.min = quantization.max = None
    return quantization


def _drop_unread(model: Any) -> None:
    """Empty the buffers that no tensor and no metadata names; the first is empty by convention."""
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or ()}
    read |= set(_indices(model.metadataBuffer))
    for index, buffer in enumerate(model.buffers):
        if index not in read:
            buffer.data = None


def _stored_small(graph: Any, float32: int, int8: int) -> set[int]:
    """Tensors of 8 bits that are read only beside a float input."""
    beside: set[int] = set()
    elsewhere: set[int] = set()
    for operator in graph.operators:
        first, *others = _indices(operator.inputs)
        is_float = graph.tensors[first].type == float32
        (beside if is_float else elsewhere).update(others)
        elsewhere.add(first)
    return {
        index
        for index in beside - elsewhere
        if graph.tensors[index].type == int8 and graph.tensors[index].quantization is not None
    }


def _real(tensor: Any, constant: Array) -> Array:
    """Stored values times their scale: of the tensor, or of each channel."""
    shape = [int(size) for size in tensor.shape]
    quantization = tensor.quantization
    along = [1] * len(shape)
    if len(quantization.scale) > 1:
        along[quantization.quantizedDimension] = -1
    scale, zero = (np.reshape(v, along) for v in (quantization.scale, quantization.zeroPoint))
    stored = constant.view(np.int8).reshape(shape).astype(np.int64)
    real: Array = ((stored - zero) * scale.astype(np.float64)).astype(np.float32)
    return real
