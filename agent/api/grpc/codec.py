"""Between ModelInferRequest and the request that the HTTP route takes. Pure.

Both carry the same: a description of tensors, and their bytes. So the description is turned into the
JSON that `oip.request` understands, once for each description: a client that sends frame after frame
repeats it byte for byte, and only the raw bytes after it differ. The same holds for answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from agent.api.grpc import schema
from agent.api.oip.elements import WIRE_DTYPES, write_strings
from agent.errors import BadPayload, BadTensor
from agent.varints import read_varint, varint

MAX_KEPT = 64  # descriptions that are remembered
MAX_KEPT_BYTES = 4096  # of a description that is remembered
MAX_INPUTS = 256

_RAW_INPUTS = 7 << 3 | 2  # field 7, length-delimited
_RAW_OUTPUTS = 6 << 3 | 2

#: Typed contents by element type: what has a field of its own. FP16 and BF16 come raw only.
_CONTENTS: Mapping[str, str] = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents",
    "INT32": "int_contents", "INT64": "int64_contents", "UINT8": "uint_contents",
    "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}  # fmt: skip


class Asked(NamedTuple):
    """An inference as it is asked for.

    Attributes:
        name: of the model.
        version: None for the active one.
        header: JSON for `oip.request.prepare`.
        body: of the tensors that the header describes.
    """

    name: str
    version: str | None
    header: bytes
    body: bytes


class Codec:
    """Translates for one connection, and remembers what is repeated."""

    def __init__(self) -> None:
        self._asked: dict[tuple[bytes, tuple[int, ...]], Asked] = {}
        self._answers: dict[bytes, bytes] = {}

    def request(self, data: bytes) -> Asked:
        """Understand a ModelInferRequest.

        Raises:
            BadPayload: it is not one.
            BadTensor: contents do not fit what is said of them.
        """
        described, raws = split_raw(data)
        key = (described, tuple(map(len, raws)))
        known = self._asked.get(key)
        if known is None:
            known, body = self._understood(described, raws)
            if body is not None:  # its tensors were in the description: nothing to remember
                return known._replace(body=body)
            if len(described) <= MAX_KEPT_BYTES:
                if len(self._asked) >= MAX_KEPT:
                    del self._asked[next(iter(self._asked))]
                self._asked[key] = known
        return known._replace(body=raws[0] if len(raws) == 1 else b"".join(raws))

    def answer(self, header: bytes, binary: Sequence[bytes | memoryview]) -> bytes:
        """A ModelInferResponse from the JSON of an answer and the tensors after it."""
        described = self._answers.get(header)
        if described is None:
            described = _described(msgspec.json.decode(header))
            if len(header) <= MAX_KEPT_BYTES:
                if len(self._answers) >= MAX_KEPT:
                    del self._answers[next(iter(self._answers))]
                self._answers[header] = described
        parts: list[bytes | memoryview] = [described]
        for tensor in binary:
            parts += [_RAW_OUTPUT, varint(len(tensor)), tensor]
        return b"".join(parts)

    def _understood(self, described: bytes, raws: Sequence[bytes]) -> tuple[Asked, bytes | None]:
        from google.protobuf.message import DecodeError

        request = schema.message("ModelInferRequest")()
        try:
            request.ParseFromString(described)
        except DecodeError as error:
            raise BadPayload("it is not a ModelInferRequest", where="message") from error
        if len(request.inputs) > MAX_INPUTS:
            raise BadPayload(f"more than {MAX_INPUTS} inputs", where="inputs")
        typed = _typed(request)
        inputs = _inputs(request, raws, typed)
        header = {
            "id": request.id,
            "parameters": {**_parameters(request.parameters), "binary_data_output": True},
            "inputs": inputs,
            "outputs": [_output(output) for output in request.outputs],
        }
        version = request.model_version or None
        asked = Asked(request.model_name, version, msgspec.json.encode(header), b"")
        return asked, b"".join(typed) if typed else None


def split_raw(data: bytes) -> tuple[bytes, list[bytes]]:
    """A message without its raw contents, and these.

    Serializers write fields in the order of their numbers, so that raw contents come last; where
    they do not, the parts before and after them are put together, which means the same.

    Raises:
        BadPayload: it is not a message.
    """
    at, kept, raws, first = 0, [], [], 0
    size = len(data)
    while at < size:
        start = at
        tag, at = read_varint(data, at, "message")
        kind = tag & 7
        if kind == 2:
            length, at = read_varint(data, at, "message")
            end = at + length
        elif kind == 0:
            _, end = read_varint(data, at, "message")
        else:
            end = at + (8 if kind == 1 else 4)
        if end > size or kind not in {0, 1, 2, 5}:
            raise BadPayload("it is cut short, or is no message", where="message")
        if tag == _RAW_INPUTS:
            kept.append(data[first:start])
            raws.append(data[at:end])
            first = end
        at = end
    return b"".join((*kept, data[first:])), raws


_RAW_OUTPUT = varint(_RAW_OUTPUTS)


def _typed(request: Any) -> list[bytes]:
    """The bytes of tensors whose elements are in the description, in order."""
    found = []
    for tensor in request.inputs:
        if not tensor.HasField("contents"):
            continue
        field = _CONTENTS.get(tensor.datatype)
        filled = [descriptor.name for descriptor, _ in tensor.contents.ListFields()]
        if field is None or filled not in ([field], []):
            message = f"{tensor.datatype[:16]} does not come in {', '.join(filled) or 'contents'}"
            raise BadTensor(message, where=tensor.name, hint="Use raw_input_contents")
        found.append(_elements(tensor, field))
    return found


def _elements(tensor: Any, field: str) -> bytes:
    values = list(getattr(tensor.contents, field))
    if tensor.datatype == "BYTES":
        array = np.empty(len(values), np.object_)
        array[:] = values
        return write_strings(array)
    dtype = WIRE_DTYPES[tensor.datatype]
    wide = np.array(values, dtype=np.dtype("f8") if dtype.kind == "f" else None)
    narrow = wide.astype(dtype)
    if dtype.kind in "iu" and values and (narrow.tolist() != values):
        raise BadTensor(f"an element does not fit {tensor.datatype}", where=tensor.name)
    return narrow.tobytes()


def _inputs(request: Any, raws: Sequence[bytes], typed: Sequence[bytes]) -> list[dict[str, Any]]:
    """Each input as JSON says it; those without shared memory take bytes in order."""
    sizes = [len(part) for part in (typed or raws)]
    if typed and raws:
        raise BadPayload("raw_input_contents and contents exclude each other", where="inputs")
    described, place = [], 0
    for tensor in request.inputs:
        parameters = _parameters(tensor.parameters)
        if "shared_memory_region" not in parameters:
            if place >= len(sizes):
                raise BadTensor("has neither contents nor shared memory", where=tensor.name)
            parameters["binary_data_size"] = sizes[place]
            place += 1
        described.append({
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
            "parameters": parameters,
        })  # fmt: skip
    if place != len(sizes):
        raise BadPayload(f"{len(sizes)} contents for {place} inputs", where="raw_input_contents")
    return described


def _output(output: Any) -> dict[str, Any]:
    parameters = _parameters(output.parameters)
    if "shared_memory_region" not in parameters:
        parameters["binary_data"] = True
    return {"name": output.name, "parameters": parameters}


def _parameters(found: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON says them; one without a value is left out."""
    said = {}
    for name, parameter in found.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is not None:
            said[name] = getattr(parameter, choice)
    return said


def _described(answer: Mapping[str, Any]) -> bytes:
    """The part of a ModelInferResponse before its raw contents, which are to be the last field."""
    response = schema.message("ModelInferResponse")(
        model_name=answer["model_name"],
        model_version=answer.get("model_version", ""),
        id=answer.get("id", ""),
    )
    for tensor in answer["outputs"]:
        made = response.outputs.add(
            name=tensor["name"], datatype=tensor["datatype"], shape=tensor["shape"]
        )
        for name, value in tensor.get("parameters", {}).items():
            if name != "binary_data_size":
                field = "string_param" if isinstance(value, str) else "int64_param"
                setattr(made.parameters[name], field, value)
    data: bytes = response.SerializeToString()
    return data
