"""int8 from edge to edge: a graph whose inputs and outputs are stored integers themselves.

A device that stores its inputs quantized saves a conversion, and the requests are a quarter of the
size. The scales of the edges are the author's, because they are part of the model's interface; they
belong into the manifest. Everything between is ranged by calibration.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import Array
from tools.quantize.libraries import quiet

BATCH = 256  # samples at once


def int8_throughout(
    model: Any, calibration: Mapping[str, Array], scales: Mapping[str, float]
) -> Any:
    """Static int8 per channel, symmetric at the edges, as an ONNX model.

    Args:
        model: a float graph (ModelProto).
        calibration: samples [n, ...] for each input.
        scales: of every input and output; their zero points are 0.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    with tempfile.TemporaryDirectory() as folder, quiet():
        before, after = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        onnx.save(model, before)
        quantize_static(
            before,
            after,
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={
                "TensorQuantOverrides": {name: [_fixed(s)] for name, s in scales.items()}
            },
        )
        return _without_edges(onnx.load(after))


def float_inside(model: Any, scales: Mapping[str, float]) -> Any:
    """The float graph behind int8 edges: what `int8_throughout` makes is compared with it.

    Args:
        model: a float graph (ModelProto).
        scales: of every input and output; their zero points are 0.
    """
    import onnx
    from onnx import helper, numpy_helper

    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    zero = numpy_helper.from_array(np.array(0, np.int8), "edges_zero")
    graph.initializer.append(zero)
    for edges, operator in ((graph.input, "DequantizeLinear"), (graph.output, "QuantizeLinear")):
        for value in edges:
            inside, scale = f"{value.name}_real", f"{value.name}_scale"
            _rename(graph.node, value.name, inside)
            step = np.array(scales[value.name], np.float32)
            graph.initializer.append(numpy_helper.from_array(step, scale))
            ways = (value.name, inside) if edges is graph.input else (inside, value.name)
            node = helper.make_node(operator, [ways[0], scale, zero.name], [ways[1]])
            graph.node.insert(0 if edges is graph.input else len(graph.node), node)
            value.type.tensor_type.elem_type = onnx.TensorProto.INT8
    onnx.checker.check_model(made)
    return made


def _reader(calibration: Mapping[str, Array]) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    count = len(next(iter(calibration.values())))
    parts = max(1, count // BATCH)
    split = {name: np.array_split(array, parts) for name, array in calibration.items()}

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(range(parts))

        def get_next(self) -> dict[str, Array] | None:
            part = next(self._left, None)
            return None if part is None else {name: arrays[part] for name, arrays in split.items()}

    return Reader()


def _fixed(scale: float) -> dict[str, Any]:
    from onnxruntime.quantization import QuantType

    return {
        "quant_type": QuantType.QInt8,
        "scale": np.array(scale, np.float32),
        "zero_point": np.array(0, np.int8),
    }


def _without_edges(model: Any) -> Any:
    """Take each input's QuantizeLinear and each output's DequantizeLinear away."""
    import onnx

    graph = model.graph
    for value in graph.input:
        node = next(
            n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == value.name
        )
        _rename(graph.node, node.output[0], value.name)
        graph.node.remove(node)
    for value in graph.output:
        node = next(
            n for n in graph.node if n.op_type == "DequantizeLinear" and n.output[0] == value.name
        )
        _rename(graph.node, node.input[0], value.name)
        graph.node.remove(node)
    for edge in (*graph.input, *graph.output):
        edge.type.tensor_type.elem_type = onnx.TensorProto.INT8
    del graph.value_info[:]
    onnx.checker.check_model(model)
    return model


def _rename(nodes: Sequence[Any], old: str, new: str) -> None:
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
