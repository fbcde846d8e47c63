"""How much memory the activations of one sample take: all of them, and the most at one time. Pure.

Shapes are those that ONNX infers for a batch of one; what it cannot infer is not counted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

SMALL = 1024  # bytes of a constant that may be a shape: shapes are inferred from its values


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of the activations of one sample.

    Attributes:
        all: every tensor that a node makes: what a calibration looks at.
        alive: the most that is needed at one time, when nodes run in their order.
    """

    all: int = 0
    alive: int = 0


def footprint(model: Any, shapes: Mapping[str, Sequence[int]]) -> Footprint:
    """What a run of a graph takes beside its weights.

    Args:
        model: a ModelProto; its large constants may be without data.
        shapes: of one sample, without the batch axis, for each input.
    """
    sizes = _sizes(_of_one(model, shapes))
    made = [sizes.get(name, 0) for node in model.graph.node for name in node.output]
    return Footprint(sum(made), _alive(model.graph, sizes))


def _alive(graph: Any, sizes: Mapping[str, int]) -> int:
    last = {name: place for place, node in enumerate(graph.node) for name in node.input}
    now = sum(sizes.get(value.name, 0) for value in graph.input)
    most = now
    for place, node in enumerate(graph.node):
        now += sum(sizes.get(name, 0) for name in node.output)
        most = max(most, now)
        done = {name for name in (*node.input, *node.output) if last.get(name, -1) == place}
        now -= sum(sizes.get(name, 0) for name in done)
    return most


def _of_one(model: Any, shapes: Mapping[str, Sequence[int]]) -> Any:
    """The graph for a batch of one, without the data of weights, with inferred shapes."""
    import onnx

    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if len(tensor.raw_data) > SMALL:
            tensor.ClearField("raw_data")
    for value in bare.graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in shapes and len(dims) == len(shapes[value.name]) + 1:
            for dim, size in zip(dims, (1, *shapes[value.name]), strict=True):
                dim.dim_value = size
    try:
        return onnx.shape_inference.infer_shapes(bare)
    except Exception:  # noqa: BLE001 - what is wrong with a graph is said where it is read
        return bare


def _sizes(model: Any) -> dict[str, int]:
    import onnx

    graph = model.graph
    found = {}
    for value in (*graph.value_info, *graph.input, *graph.output):
        tensor = value.type.tensor_type
        dims = [dim.dim_value for dim in tensor.shape.dim]
        if tensor.elem_type and all(dims):
            width = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
            found[value.name] = width * prod(dims)
    return found
