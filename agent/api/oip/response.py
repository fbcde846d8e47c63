"""From a model's outputs to a response's bytes. Pure."""

from collections.abc import Mapping

import numpy as np

from agent.api.oip.elements import plain, write_strings
from agent.api.oip.messages import InferenceResponse, OutputTensor, encode_response
from agent.api.oip.request import Prepared, Wanted
from agent.api.oip.shared import Shared, described
from agent.api.oip.signature import Signature
from agent.engines.base import DTYPE_NAMES, dtype_name
from agent.engines.quantization import dequantize
from agent.errors import BadTensor
from agent.types import Array

COPY_BELOW = (
    64 * 1024
)  # bytes: smaller outputs are copied, larger ones are sent from where they are
MAX_TEMPLATES = 8  # JSON parts kept for one prepared request


def encode(
    outputs: Mapping[str, Array],
    prepared: Prepared,
    signature: Signature,
    shared: Shared | None = None,
) -> tuple[bytes, list[bytes | memoryview]]:
    """The answer's JSON part and, after it, the binary tensors.

    Without binary tensors the list is empty and the JSON is the whole answer. Elements are little-
    endian and row-major. Outputs that are wanted in shared memory are put there.

    Raises:
        BadTensor: an output does not fit into the shared memory that it is wanted in.
    """
    if prepared.flat:
        return _flat(outputs, prepared, signature)
    arrays = [_form(outputs[wanted.spec.name], wanted) for wanted in prepared.wanted]
    binary = []
    for array, wanted in zip(arrays, prepared.wanted, strict=True):
        if wanted.place is not None:
            assert shared is not None
            shared.write(wanted.place, _fitting(_bytes(array), wanted))
        elif wanted.binary:
            binary.append(_bytes(array))
    return _json(arrays, prepared, signature), binary


def _fitting(data: bytes | memoryview, wanted: Wanted) -> bytes | memoryview:
    assert wanted.place is not None
    if len(data) > wanted.place.size:
        raise BadTensor(
            f"the output has {len(data)} bytes, its shared memory {wanted.place.size}",
            where=wanted.spec.name,
        )
    return data


def _flat(
    outputs: Mapping[str, Array], prepared: Prepared, signature: Signature
) -> tuple[bytes, list[bytes | memoryview]]:
    """All outputs as they are: the JSON part is that of the last answer with the same sizes."""
    arrays = [outputs[name] for name in prepared.names]
    binary = [_bytes(array) for array in arrays]
    key = tuple([array.shape for array in arrays])
    text = prepared.templates.get(key)
    if text is None:
        text = _json(arrays, prepared, signature)
        if len(prepared.templates) < MAX_TEMPLATES:
            prepared.templates[key] = text
    return text, binary


def _form(array: Array, wanted: Wanted) -> Array:
    if wanted.dequantize and wanted.spec.quantization is not None:
        return dequantize(array, wanted.spec.quantization)
    return array


def _json(arrays: list[Array], prepared: Prepared, signature: Signature) -> bytes:
    tensors = [
        _tensor(array, wanted) for array, wanted in zip(arrays, prepared.wanted, strict=True)
    ]
    response = InferenceResponse(signature.name, signature.version, tensors, prepared.id)
    return encode_response(response)


def _tensor(array: Array, wanted: Wanted) -> OutputTensor:
    name, shape = wanted.spec.name, array.shape
    dtype = DTYPE_NAMES.get(array.dtype) or dtype_name(array.dtype)
    if wanted.place is not None:
        return OutputTensor(name, dtype, shape, described(wanted.place, len(_bytes(array))))
    if wanted.binary:
        return OutputTensor(name, dtype, shape, {"binary_data_size": len(_bytes(array))})
    return OutputTensor(name, dtype, shape, data=plain(array))


def _bytes(array: Array) -> bytes | memoryview:
    if array.dtype == np.object_:
        return write_strings(array)
    if array.nbytes < COPY_BELOW:
        return array.tobytes()
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
