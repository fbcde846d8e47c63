"""LiteRT (TensorFlow Lite), on the processor through XNNPACK. The only file that imports it."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from agent.engines.base import DTYPE_NAMES, EngineOptions, Session, load_error
from agent.engines.catalog import ENGINES, library
from agent.errors import BadModel, BadTensor, EngineMissing
from agent.types import Array, DType, Quantization, TensorSpec

#: How the runtime names an operator that it does not have: custom, or of a newer version.
MISSING_OPERATOR = (
    re.compile(r"custom ops?: \[?([\w, ]+)"),
    re.compile(r"Didn't find op for builtin opcode '(\w+)' version '\d+'"),
)
OPERATOR_HINT = "Convert the model with built-in operators only (TFLITE_BUILTINS)"


class TfliteSession(Session):
    """A model in LiteRT. State that a streaming model carries lives as long as the session.

    A model with a free batch size is resized when the size changes, and only then.
    """

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        interpreter = _interpreter(model, options)
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        super().__init__([_spec(d) for d in inputs], [_spec(d) for d in outputs])
        self._interpreter = interpreter
        self._input_indices = [int(d["index"]) for d in inputs]
        self._output_indices = [int(d["index"]) for d in outputs]
        self._shapes = [tuple(int(size) for size in d["shape"]) for d in inputs]

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        interpreter = self._interpreter
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            self._resize(shapes)
        for index, array in zip(self._input_indices, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in self._output_indices]

    def _close(self) -> None:
        del self._interpreter

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        for spec, shape in zip(self.inputs, shapes, strict=True):
            if 0 in shape:  # kernels divide by it
                raise BadTensor("the tensor is empty", where=spec.name)
        self._shapes = []  # until all of it has worked
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape, strict=True)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


@cache
def _library() -> Any:
    found = library(ENGINES["tflite"])
    if found is None:
        raise EngineMissing("no LiteRT library is installed", where="engine tflite")
    return import_module(f"{found[1]}.interpreter")


def _interpreter(model: bytes, options: EngineOptions) -> Any:
    interpreter_class = _library().Interpreter
    try:
        interpreter = interpreter_class(model_content=model, num_threads=options.usable_threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise load_error(error, "LiteRT", MISSING_OPERATOR, OPERATOR_HINT) from error
    return interpreter


def _spec(details: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=details["name"],
        dtype=_dtype(details),
        shape=tuple(int(size) for size in _signature(details)),
        quantization=_quantization(details["quantization_parameters"]),
    )


def _signature(details: Mapping[str, Any]) -> Sequence[int]:
    # Older converters leave the signature empty where every size is fixed.
    signature: Sequence[int] = details["shape_signature"]
    return signature if len(signature) == len(details["shape"]) else details["shape"]


def _dtype(details: Mapping[str, Any]) -> DType:
    # Strings are left out: the runtime takes them in a layout of its own.
    dtype = DTYPE_NAMES.get(np.dtype(details["dtype"]))
    if dtype is None:
        raise BadModel(f"the type {details['dtype']} cannot be carried", where=details["name"])
    return dtype


def _quantization(parameters: Mapping[str, Any]) -> Quantization | None:
    scales, zero_points = parameters["scales"], parameters["zero_points"]
    if len(scales) != 1:  # none, or one for each channel, which inputs and outputs never have
        return None
    return Quantization(float(scales[0]), int(zero_points[0]))
