"""Questions to an ONNX graph. Pure: no file is read."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

#: Operators whose weights make a model large, and where quantization errors arise.
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "Gather")

#: What a runtime fuses into the layer before it: the layer's output is theirs.
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Gelu")

_SCALES = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "MatMulNBits": (2, 3),
    "GatherBlockQuantized": (2, 3),
}


def name_nodes(model: Any) -> None:
    """Give nodes without a name one, and all of them different ones."""
    seen: Counter[str] = Counter()
    for node in model.graph.node:
        base = node.name or node.op_type
        node.name = base if base not in seen and node.name else f"{base}_{seen[base]}"
        seen[base] += 1


def layers(model: Any) -> list[Any]:
    """Nodes with weights of their own."""
    weights = initializers(model)
    return [
        node
        for node in model.graph.node
        if node.op_type in LAYERS and any(name in weights for name in node.input)
    ]


def opset(model: Any) -> int:
    """The version of ONNX's own operators."""
    return max((int(each.version) for each in model.opset_import if not each.domain), default=0)


def initializers(model: Any) -> Mapping[str, Any]:
    """Constant tensors by name."""
    return {tensor.name: tensor for tensor in model.graph.initializer}


def parameters(model: Any) -> int:
    """Number of weights; scales and zero points are not weights, packed ones count as what they hold."""
    constants = initializers(model)
    skipped = {
        name
        for node in model.graph.node
        for index, name in enumerate(node.input)
        if index in _SCALES.get(node.op_type, ())
    }
    packed = {node.input[1] for node in model.graph.node if node.op_type == "MatMulNBits"}
    return sum(
        int(np.prod(tensor.dims, dtype=np.int64)) * (2 if name in packed else 1)
        for name, tensor in constants.items()
        if name not in skipped
    )


def packable(model: Any) -> Mapping[str, int]:
    """Operators whose matrix can be of 4 bits, and where among their inputs it is.

    Tables are of 4-bit tensors, which ONNX has from opset 21 on; a product's weights are packed in bytes.
    """
    return {"MatMul": 1, "Gather": 0} if opset(model) >= 21 else {"MatMul": 1}


def large_matrices(model: Any, least: int) -> list[str]:
    """Names of products, and of look-ups in tables, whose constant matrix has at least so many elements."""
    constants, place = initializers(model), packable(model)
    found = []
    for node in model.graph.node:
        matrix = constants.get(node.input[place[node.op_type]]) if node.op_type in place else None
        if matrix is not None and len(matrix.dims) == 2 and np.prod(matrix.dims) >= least:
            found.append(node.name)
    return found


def visible_output(model: Any, node: Any) -> str:
    """The tensor where a layer's result is seen: after the activation that is fused into it."""
    consumers = [n for n in model.graph.node if node.output[0] in n.input]
    if len(consumers) == 1 and consumers[0].op_type in ACTIVATIONS:
        return str(consumers[0].output[0])
    return str(node.output[0])


def producers(model: Any) -> set[str]:
    """Names of all tensors that nodes make."""
    return {name for node in model.graph.node for name in node.output if name}


def with_outputs(model: Any, names: Iterable[str]) -> Any:
    """A copy of the model that also returns these tensors."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {value.name for value in copy.graph.output}
    typed = {value.name: value for value in copy.graph.value_info}
    for name in names:
        if name not in known:
            copy.graph.output.append(typed.get(name, onnx.ValueInfoProto(name=name)))
    return copy


def activation_inputs(model: Any, node: Any) -> Sequence[str]:
    """The inputs of a node that are not constants."""
    constants = initializers(model)
    return [name for name in node.input if name and name not in constants]
