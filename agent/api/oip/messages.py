"""The protocol's JSON messages as structs. Pure."""

from typing import Any, Final

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from agent.errors import BadPayload, BadTensor

MAX_TENSORS: Final = 256  # inputs or requested outputs of one request
MAX_DIMENSIONS: Final = 16


class InputTensor(Struct):
    """One input: its elements are in `data`, or in the body after the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Raw | UnsetType = UNSET


class RequestedOutput(Struct):
    """One output that the client wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferenceRequest(Struct):
    """What is asked of a model."""

    inputs: list[InputTensor]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] = []


class OutputTensor(Struct, omit_defaults=True):
    """One output of the answer."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    parameters: dict[str, Any] = {}
    data: Any = None


class InferenceResponse(Struct, omit_defaults=True):
    """What a model answered."""

    model_name: str
    model_version: str
    outputs: list[OutputTensor]
    id: str = ""


_decoder = msgspec.json.Decoder(InferenceRequest)
_encoder = msgspec.json.Encoder()


def decode_request(data: bytes | memoryview) -> InferenceRequest:
    """An inference request, its numbers of tensors and dimensions within bounds.

    Raises:
        BadPayload: it is not such a message; the text says which field.
        BadTensor: a tensor is declared twice, or with more dimensions than there can be.
    """
    try:
        request = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload(f"not an inference request: {error}", where="body") from None
    _check_names([tensor.name for tensor in request.inputs], "inputs")
    _check_names([output.name for output in request.outputs], "outputs")
    for tensor in request.inputs:
        if len(tensor.shape) > MAX_DIMENSIONS:
            raise BadTensor(f"more than {MAX_DIMENSIONS} dimensions", where=tensor.name)
    return request


def encode_response(response: InferenceResponse) -> bytes:
    """The answer's JSON; NaN and infinities, which JSON does not have, become null."""
    return _encoder.encode(response)


def _check_names(names: list[str], where: str) -> None:
    if len(names) > MAX_TENSORS:
        raise BadPayload(f"more than {MAX_TENSORS} tensors", where=where)
    if len(set(names)) < len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise BadTensor("the tensor is named twice", where=twice)
