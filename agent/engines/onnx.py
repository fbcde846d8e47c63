"""ONNX Runtime, on the processor. The only file that imports onnxruntime."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from agent.engines.base import EngineOptions, Session, load_error
from agent.errors import BadModel, BadTensor
from agent.types import Array, DType, TensorSpec

DTYPES: Mapping[str, DType] = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}

#: How the runtime names an operator that it does not have: not in any domain, or not for a type.
MISSING_OPERATOR = (
    re.compile(r"Fatal error: ([\w.:]+)\(-?\d+\) is not a registered function/op"),
    re.compile(r"Could not find an implementation for ([\w.:]+)\((\d+)\)"),
    re.compile(r"No Op registered for ([\w.:]+)"),
)
OPERATOR_HINT = "Export the model with operators of the standard domain, opset 21 or lower"

ERRORS_ONLY = 3  # log severity: 0 verbose to 4 fatal

#: Weights beside the model file would be bytes that nobody verified; the runtime looks for them
#: here, where nothing can be.
NO_EXTERNAL_WEIGHTS = "/dev/null"


class OnnxSession(Session):
    """A model in ONNX Runtime.

    ONNX does not attach a scale and a zero point to a graph's own inputs and outputs, so the specs
    carry none; the manifest says them.
    """

    parallel = True

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        runtime = _runtime()
        try:
            session = runtime.InferenceSession(
                model,
                sess_options=_session_options(runtime, options),
                providers=["CPUExecutionProvider"],
            )
        except Exception as error:  # its classes have no root of their own
            raise load_error(error, "onnxruntime", MISSING_OPERATOR, OPERATOR_HINT) from error
        super().__init__(_specs(session.get_inputs()), _specs(session.get_outputs()))
        self._session = session
        self._input_names = tuple(spec.name for spec in self.inputs)
        self._texts = [i for i, spec in enumerate(self.inputs) if spec.dtype == "BYTES"]

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        if self._texts:
            arrays = [_text(a) if a.dtype == np.object_ else a for a in arrays]
        feed = dict(zip(self._input_names, arrays, strict=True))
        results: Sequence[Array] = self._session.run(self._output_names, feed)
        return results

    def _close(self) -> None:
        del self._session


def _text(array: Array) -> Array:
    """Strings as the runtime takes them: of bytes it would make their Python notation.

    Raises:
        BadTensor: an element is not UTF-8.
    """
    texts = np.empty(array.size, np.object_)
    try:
        texts[:] = [v.decode() if isinstance(v, bytes) else v for v in array.ravel().tolist()]
    except UnicodeDecodeError as error:
        raise BadTensor("an element is not UTF-8 text") from error
    return texts.reshape(array.shape)


@cache
def _runtime() -> Any:
    # Releases from 1.29 on carry a telemetry client that starts at import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.set_default_logger_severity(ERRORS_ONLY)
    return onnxruntime


def _session_options(runtime: Any, options: EngineOptions) -> Any:
    chosen = runtime.SessionOptions()
    chosen.intra_op_num_threads = options.usable_threads
    chosen.inter_op_num_threads = 1
    chosen.log_severity_level = ERRORS_ONLY
    # The arena keeps the largest peak for ever; small models do not gain from it.
    chosen.enable_cpu_mem_arena = False
    # A daemon that waits for sensors must not burn a core between two runs.
    chosen.add_session_config_entry("session.intra_op.allow_spinning", "0")
    chosen.add_session_config_entry("session.inter_op.allow_spinning", "0")
    chosen.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", NO_EXTERNAL_WEIGHTS
    )
    return chosen


def _specs(nodes: Iterable[Any]) -> list[TensorSpec]:
    return [TensorSpec(node.name, _dtype(node), _shape(node.shape)) for node in nodes]


def _dtype(node: Any) -> DType:
    dtype = DTYPES.get(node.type)
    if dtype is None:
        raise BadModel(f"the type {node.type} cannot be carried", where=f"tensor {node.name}")
    return dtype


def _shape(shape: Sequence[Any]) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in shape)
