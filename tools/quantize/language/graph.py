"""From a float graph to one of few bits: matrices, the embedding and the head.

Works on what the model builder of onnxruntime-genai makes: a MatMul with an initializer for each
matrix, and an embedding that is the head's, transposed, where a model ties them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.errors import BadModel
from tools.quantize.family import Progress
from tools.quantize.language import rotary
from tools.quantize.language.weights import Blocks
from tools.quantize.onnx.slim import slimmed

HEAD = "/lm_head/MatMul"
EMBEDDING = "/model/embed_tokens/Gather"
DATA = "model.onnx.data"
ACCURACY = 4  # activations are rounded to 8 bits for the product, as every processor does fastest
MIN_HALVED = 256  # elements: a smaller tensor is not worth a node
MIN_EXTERNAL = 1024  # bytes: smaller tensors stay in the graph

Quantizer = Callable[[str, NDArray[np.float32]], Blocks | None]


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix of the graph: the node that multiplies with it, and the initializer's name."""

    node: str
    weight: str


def matrices(model: Any) -> Iterator[Matrix]:
    """Those of a loaded graph (onnx.ModelProto), in order."""
    known = {tensor.name for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in known:
            yield Matrix(node.name, node.input[1])


def count(model: Any) -> int:
    """Number of weights of a float graph, without the tables of rotary positions, which can be computed."""
    from onnx import TensorProto

    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    found = [tensor for tensor in model.graph.initializer if tensor.data_type in kinds]
    return sum(math.prod(tensor.dims) for tensor in found if tensor.name not in rotary.TABLES)


def weights(model: Any, folder: Path) -> Mapping[str, Callable[[], NDArray[np.float32]]]:
    """How each initializer is read, by name: one at a time, so that memory holds one."""
    from onnx import numpy_helper

    def reader(tensor: Any) -> Callable[[], NDArray[np.float32]]:
        return lambda: np.asarray(numpy_helper.to_array(tensor, str(folder)))

    return {tensor.name: reader(tensor) for tensor in model.graph.initializer}


def quantized(source: Path, target: Path, quantizer: Quantizer, progress: Progress) -> None:
    """Write a graph with its matrices quantized.

    Args:
        source: folder of the float model.
        target: folder to write model.onnx and its data into.
        quantizer: what a matrix, float32 [N, K], becomes, by its node's name; None leaves it. It is
            asked for the embedding, [vocabulary, K], too, where that is a matrix of its own.
        progress: told before each matrix.

    Raises:
        BadModel: the graph is not what the builder makes.
    """
    import onnx

    model = onnx.load(source / "model.onnx", load_external_data=False)
    surgeon = _Surgeon(model, weights(model, source))
    found = list(matrices(model))
    if not found:
        raise BadModel("the graph has no matrix to be quantized", where=str(source))
    for number, matrix in enumerate(found):
        progress("Rounding matrices", number / len(found))
        blocks = quantizer(matrix.node, surgeon.read(matrix.weight).T)
        if blocks is not None:
            surgeon.replace(matrix, blocks)
    table = surgeon.embedding()
    if table is not None:
        blocks = quantizer(EMBEDDING, surgeon.read(table))
        if blocks is not None:
            surgeon.look_up(table, blocks)
    surgeon.compute_tables()
    surgeon.finish()
    _save(slimmed(model), source, target)


class _Surgeon:
    """Changes a graph in place."""

    def __init__(self, model: Any, read: Mapping[str, Callable[[], NDArray[np.float32]]]) -> None:
        self._graph = model.graph
        self._read = read
        self._nodes = {node.name: node for node in model.graph.node}
        self._casts: list[Any] = []
        self._before: dict[str, list[Any]] = {}  # new nodes, by the node that they are put before
        self._wide: dict[str, str] = {}
        self._constants: set[str] = set()
        if all(entry.domain != "com.microsoft" for entry in model.opset_import):
            model.opset_import.add(domain="com.microsoft", version=1)

    def read(self, name: str) -> NDArray[np.float32]:
        """An initializer."""
        return self._read[name]()

    def replace(self, matrix: Matrix, blocks: Blocks) -> None:
        """Multiply with blocks instead of the matrix; the embedding too, if it is the head's."""
        node = self._nodes[matrix.node]
        rows, length = blocks.values.shape
        given = node.input[0]
        if blocks.offsets is not None:
            count = blocks.scales.shape[1]
            given = self._followed_by_means(node, count, blocks.block)
            length += count
            blocks = blocks.widened()
        inputs = self._add(matrix.weight, blocks)
        self._become(
            node,
            "MatMulNBits",
            [given, *inputs],
            K=length,
            N=rows,
            bits=blocks.bits,
            block_size=blocks.block,
            accuracy_level=ACCURACY,
        )
        if matrix.node == HEAD:
            self._tie(matrix.weight, inputs, blocks)

    def embedding(self) -> str | None:
        """The initializer that holds the embedding, where it is not the head's."""
        gather = self._nodes.get(EMBEDDING)
        return gather.input[0] if gather is not None and gather.input[0] in self._read else None

    def look_up(self, table: str, blocks: Blocks) -> None:
        """Look tokens up in blocks instead of an embedding of its own."""
        self._gather(self._add(table, blocks), blocks)

    def compute_tables(self) -> None:
        """Compute the tables of rotary positions instead of storing them, where that can be done."""
        if all(name in self._read for name in rotary.TABLES):
            rotary.compute(self._graph, *(self.read(name) for name in rotary.TABLES))

    def finish(self) -> None:
        """Put the new nodes first, and drop what nobody reads any more."""
        old = [n for node in self._graph.node for n in (*self._before.get(node.name, ()), node)]
        del self._graph.node[:]
        self._graph.node.extend([*self._casts, *old])
        used = {name for node in self._graph.node for name in node.input}
        kept = [t for t in self._graph.initializer if t.name in used]
        del self._graph.initializer[:]
        self._graph.initializer.extend(self._halved(tensor) for tensor in kept)

    def _halved(self, tensor: Any) -> Any:
        """The same numbers as float16, widened when the model is loaded, where that is exact."""
        from onnx import TensorProto, numpy_helper

        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < MIN_HALVED:
            return tensor
        values = self.read(tensor.name)
        half = values.astype(np.float16)
        if not np.array_equal(half, values):
            return tensor
        name = f"{tensor.name}.half"
        self._graph.node.insert(0, _node("Cast", [name], tensor.name, to=TensorProto.FLOAT))
        return numpy_helper.from_array(half, name)

    def _tie(self, weight: str, inputs: list[str], blocks: Blocks) -> None:
        """An embedding that is the head's matrix, transposed, reads the same blocks."""
        gather = self._nodes.get(EMBEDDING)
        turned = next((n for n in self._graph.node if list(n.input) == [weight]), None)
        if gather is None or turned is None or gather.input[0] != turned.output[0]:
            return
        self._gather(inputs, blocks)
        self._graph.node.remove(turned)

    def _followed_by_means(self, node: Any, blocks: int, block: int) -> str:
        """What a node is given, [batch, tokens, K], followed by the means of its blocks."""
        given = str(node.input[0])
        if given not in self._wide:
            parts, means, wide = f"{given}.parts", f"{given}.means", f"{given}.wide"
            shape = self._shared(f"offsets.parts.{blocks}", np.array([0, 0, blocks, block]))
            axes = self._shared("offsets.axis", np.array([-1]))
            self._before[node.name] = [
                _node("Reshape", [given, shape], parts),
                _node("ReduceMean", [parts, axes], means, keepdims=0),
                _node("Concat", [given, means], wide, axis=-1),
            ]
            self._wide[given] = wide
        return self._wide[given]

    def _gather(self, inputs: list[str], blocks: Blocks) -> None:
        gather = self._nodes[EMBEDDING]
        flat = f"{inputs[0]}.rows"
        shape = self._tensor(f"{inputs[0]}.shape", np.array([blocks.values.shape[0], -1]))
        self._casts.append(_node("Reshape", [inputs[0], shape], flat))
        self._become(
            gather,
            "GatherBlockQuantized",
            [flat, gather.input[1], *inputs[1:]],
            bits=blocks.bits,
            block_size=blocks.block,
            gather_axis=0,
            quantize_axis=1,
        )

    def _add(self, name: str, blocks: Blocks) -> list[str]:
        """Values, scales and zero points as initializers.

        Scales are kept in half the room: the runtime makes them float32 once, when it loads.
        """
        values = self._tensor(f"{name}.q{blocks.bits}", blocks.packed())
        half = self._tensor(f"{name}.scales16", blocks.scales.astype(np.float16))
        self._casts.append(_node("Cast", [half], f"{name}.scales", to=1))
        zeros = blocks.packed_zeros()
        inputs = [values, f"{name}.scales"]
        return inputs if zeros is None else [*inputs, self._tensor(f"{name}.zeros", zeros)]

    def _shared(self, name: str, values: NDArray[Any]) -> str:
        """A small tensor that several nodes read."""
        if name not in self._constants:
            self._constants.add(self._tensor(name, values))
        return name

    def _tensor(self, name: str, values: NDArray[Any]) -> str:
        from onnx import numpy_helper

        self._graph.initializer.append(numpy_helper.from_array(values, name))
        return name

    @staticmethod
    def _become(node: Any, operator: str, inputs: list[str], **attributes: int) -> None:
        from onnx import helper

        node.op_type, node.domain = operator, "com.microsoft"
        del node.input[:], node.attribute[:]
        node.input.extend(inputs)
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> Any:
    from onnx import helper

    return helper.make_node(operator, inputs, [output], name=f"/quantized/{output}", **attributes)


def _save(model: Any, source: Path, target: Path) -> None:
    import onnx
    from onnx.external_data_helper import load_external_data_for_model

    load_external_data_for_model(model, str(source))
    onnx.save_model(
        model,
        target / "model.onnx",
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=DATA,
        size_threshold=MIN_EXTERNAL,
    )
