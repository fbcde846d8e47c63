"""The file format itself: a FlatBuffer, by the schema that ai-edge-litert carries.

To be imported where a file is rewritten: neither library is there without the extra `tflite`.
"""

import hashlib
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from agent.types import Array

IDENTIFIER = b"TFL3"
ALIGNED = 16  # bytes, of constants: kernels read them where they are
FLOAT32, INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8


def unpacked(data: bytes) -> Any:
    """A file as the schema's objects (ModelT); vectors of numbers are NumPy arrays."""
    return schema.ModelT.InitFromPackedBuf(data, 0)


def packed(model: Any) -> bytes:
    """The bytes of a file; vectors and strings that are equal are in it once."""
    builder = _Sharing()
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def float_constant(values: Array) -> Any:
    """Real values as a buffer (BufferT)."""
    made = schema.BufferT()
    made.data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    return made


class _Sharing(flatbuffers.Builder):  # type: ignore[misc]
    """A vector or string that was written before is referred to, which the format allows."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self._written: dict[tuple[str, bytes], int] = {}

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:  # noqa: N802, N803
        # The schema's force_align, which the generated code does not know.
        started: int = super().StartVector(
            elemSize, numElems, ALIGNED if elemSize == 1 else alignment
        )
        return started

    def CreateNumpyVector(self, x: Array) -> int:  # noqa: N802
        key = (x.dtype.str, hashlib.sha256(x.tobytes()).digest())
        if key not in self._written:
            self._written[key] = super().CreateNumpyVector(x)
        return self._written[key]

    def CreateString(self, s: bytes, encoding: str = "utf-8", errors: str = "strict") -> int:  # noqa: N802
        key = ("text", s)
        if key not in self._written:
            self._written[key] = super().CreateString(s, encoding, errors)
        return self._written[key]
