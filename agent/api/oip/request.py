"""From a request's bytes to tensors. Pure.

In two steps. `prepare` reads the JSON part against the model's signature: everything that can be
wrong apart from the elements themselves is found there. `Prepared.tensors` then only slices and
checks the binary part. A client that sends frame after frame repeats the same JSON, so a prepared
request without JSON data can be kept and used again.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from msgspec import Raw

from agent.api.oip.elements import (
    WIRE_DTYPES,
    element_count,
    from_bf16,
    read_json,
    read_strings,
    refuse_nan,
    refuse_not_finite,
    refuse_other_bools,
)
from agent.api.oip.messages import InputTensor, RequestedOutput, decode_request
from agent.api.oip.shared import Shared, SharedRange, shared_range
from agent.api.oip.signature import Signature
from agent.engines.base import NUMPY_DTYPES
from agent.engines.quantization import quantize
from agent.errors import BadPayload, BadTensor
from agent.types import Array, TensorSpec, Values

_BYTE = np.dtype("u1")

Step = Callable[[Array], Array]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output to answer.

    Attributes:
        spec: of the model.
        binary: after the JSON instead of inside it.
        dequantize: as FP32, by the scale and zero point of the model.
        place: in shared memory instead of in the answer.
    """

    spec: TensorSpec
    binary: bool
    dequantize: bool
    place: SharedRange | None = None

    @property
    def as_it_is(self) -> bool:
        """Whether the bytes are the model's own, and their number follows from the shape."""
        plain = not self.dequantize and self.spec.dtype != "BYTES"
        return plain and self.binary and self.place is None


class Slice(NamedTuple):
    """An input among bytes.

    Attributes:
        name: of the input.
        dtype: of the elements as they are there.
        shape: of the array as it is there.
        offset: of the first byte.
        elements: their number.
        steps: from there to what the model takes.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    elements: int
    steps: tuple[Step, ...]

    def take(self, data: bytes | memoryview) -> Array:
        """The input."""
        array: Array = np.frombuffer(data, self.dtype, self.elements, self.offset).reshape(
            self.shape
        )
        for step in self.steps:
            array = step(array)
        return array


@dataclass(slots=True)
class Prepared:
    """A request whose JSON part was understood.

    Attributes:
        id: the client's own, echoed.
        wanted: outputs in the order in which they are answered.
        ready: inputs that were in the JSON.
        slices: inputs in the binary part.
        external: inputs in shared memory.
        size: bytes that the whole body must have.
        templates: JSON parts of answers by the outputs' shapes; see `response`.
        priority: 1 for the most urgent; 0 for the usual.
        timeout_s: within which the answer is wanted, seconds; 0 for whenever.
        names: of the outputs.
        flat: outputs are sent as the model gives them, so that their shapes say all.
    """

    id: str
    wanted: tuple[Wanted, ...]
    ready: dict[str, Array]
    slices: list[Slice]
    size: int
    external: list[tuple[SharedRange, Slice]] = field(default_factory=list)
    templates: dict[tuple[tuple[int, ...], ...], bytes] = field(default_factory=dict)
    priority: int = 0
    timeout_s: float = 0.0
    names: tuple[str, ...] = ()
    flat: bool = False

    @classmethod
    def of(cls, identity: str, wanted: tuple[Wanted, ...], size: int) -> "Prepared":
        """A request whose inputs are not placed yet."""
        names = tuple([one.spec.name for one in wanted])
        flat = not identity and all(one.as_it_is for one in wanted)
        return cls(identity, wanted, {}, [], size, names=names, flat=flat)

    @property
    def reusable(self) -> bool:
        """Whether the same JSON part means the same request again."""
        return not self.ready and not self.id

    def tensors(self, body: bytes, shared: Shared | None = None) -> dict[str, Array]:
        """The inputs. Arrays without steps share the body's memory and are read-only.

        Raises:
            BadPayload: the body's size is not what the tensors need.
            BadTensor: elements are not what the model takes.
            NotFound: the caller has no such region of shared memory.
        """
        if len(body) != self.size:
            raise BadPayload(
                f"the tensors and the JSON need {self.size} bytes, the body has {len(body)}",
                where="body",
            )
        tensors = dict(self.ready)
        for name, dtype, shape, offset, count, steps in self.slices:  # `take`, without the call
            array = np.frombuffer(body, dtype, count, offset).reshape(shape)
            for step in steps:
                array = step(array)
            tensors[name] = array
        for place, part in self.external:
            assert shared is not None
            tensors[part.name] = part.take(shared.read(place))
        return tensors


def prepare(body: bytes, header_length: int, signature: Signature) -> Prepared:
    """Understand the JSON part of a body.

    Args:
        body: the whole body.
        header_length: bytes of JSON at its start.
        signature: of the model that is asked.

    Raises:
        BadPayload: the JSON is not an inference request.
        BadTensor: a tensor is not the model's; `where` names it.
    """
    if header_length > len(body):
        raise BadPayload(
            f"the JSON should have {header_length} bytes, the body has {len(body)}",
            where="Inference-Header-Content-Length",
        )
    request = decode_request(memoryview(body)[:header_length])
    binary = _flag(request.parameters, "binary_data_output", False, "parameters")
    wanted = _wanted(request.outputs, signature, binary=binary)
    prepared = Prepared.of(request.id, wanted, header_length)
    prepared.priority = _number(request.parameters, "priority")
    prepared.timeout_s = _number(request.parameters, "timeout") / 1e6  # microseconds on the wire
    for tensor in request.inputs:
        _place(tensor, signature, prepared)
    missing = [name for name in signature.inputs if not _has(prepared, name)]
    if missing:
        raise BadTensor("the input is missing", where=missing[0])
    return prepared


def prepare_raw(body: bytes, signature: Signature) -> Prepared:
    """A body that is the elements of the model's only input and nothing else, batch 1.

    Raises:
        BadTensor: the model has several inputs, or the size does not fit its shape.
    """
    if len(signature.inputs) != 1:
        raise BadTensor(f"a raw request needs a model with one input, not {len(signature.inputs)}")
    spec = next(iter(signature.inputs.values()))
    shape = _raw_shape(spec, len(body))
    wanted = tuple(Wanted(output, True, False) for output in signature.outputs.values())
    prepared = Prepared.of("", wanted, 0)
    tensor = InputTensor(spec.name, list(shape), spec.dtype, {"binary_data_size": len(body)})
    _place(tensor, signature, prepared)
    return prepared


# Outputs


def _wanted(
    outputs: Sequence[RequestedOutput], signature: Signature, *, binary: bool
) -> tuple[Wanted, ...]:
    if not outputs:
        return tuple(Wanted(spec, binary, False) for spec in signature.outputs.values())
    return tuple(_one_wanted(output, signature, binary=binary) for output in outputs)


def _one_wanted(output: RequestedOutput, signature: Signature, *, binary: bool) -> Wanted:
    spec = signature.output(output.name)
    parameters = output.parameters
    if "classification" in parameters:
        raise BadTensor("the classification extension is not offered", where=output.name)
    dequantize = _flag(parameters, "dequantize", False, output.name)
    if dequantize and spec.quantization is None:
        raise BadTensor("the output is not quantized", where=output.name)
    place = shared_range(parameters, output.name)
    return Wanted(spec, _flag(parameters, "binary_data", binary, output.name), dequantize, place)


def _flag(parameters: dict[str, Any], key: str, default: bool, where: str) -> bool:
    value = parameters.get(key, default)
    if not isinstance(value, bool):
        raise BadPayload(f"{key} must be true or false", where=where)
    return value


def _number(parameters: dict[str, Any], key: str) -> int:
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise BadPayload(f"{key} must be a whole number, 0 or more", where="parameters")
    return value


# Inputs


def _place(tensor: InputTensor, signature: Signature, prepared: Prepared) -> None:
    spec = signature.input(tensor.name)
    shape = tuple(tensor.shape)
    count = element_count(shape, tensor.name)
    size = tensor.parameters.get("binary_data_size")
    place = shared_range(tensor.parameters, tensor.name)
    if sum((size is not None, place is not None, isinstance(tensor.data, Raw))) != 1:
        raise BadTensor(
            "exactly one of data, binary_data_size and shared_memory_region is needed",
            where=tensor.name,
        )
    if isinstance(tensor.data, Raw):
        prepared.ready[tensor.name] = _from_json(tensor, spec, shape, nan=signature.nan)
    elif place is not None:
        part = _slice(tensor, spec, (shape, count, place.size), 0, nan=signature.nan)
        prepared.external.append((place, part))
    elif type(size) is int and size >= 0:
        measure = (shape, count, size)
        part = _slice(tensor, spec, measure, prepared.size, nan=signature.nan)
        prepared.slices.append(part)
        prepared.size += size
    else:
        raise BadTensor("binary_data_size must be a number of bytes", where=tensor.name)


def _from_json(
    tensor: InputTensor, spec: TensorSpec, shape: tuple[int, ...], *, nan: bool
) -> Array:
    assert isinstance(tensor.data, Raw)
    return json_reader(tensor, spec, shape, nan=nan)(bytes(tensor.data))


def json_reader(
    tensor: InputTensor, spec: TensorSpec, shape: tuple[int, ...], *, nan: bool
) -> Callable[[bytes], Array]:
    """What makes an input of its elements' JSON."""
    steps = _steps(tensor.datatype, spec, nan=nan)
    wire = NUMPY_DTYPES["BYTES"] if tensor.datatype == "BYTES" else WIRE_DTYPES[tensor.datatype]
    if tensor.datatype == "BF16":
        wire, steps = np.dtype("<f4"), steps[1:]

    def read(text: bytes) -> Array:
        array = read_json(text, wire, shape, tensor.name)
        for step in steps:
            array = step(array)
        return array

    return read


def _slice(
    tensor: InputTensor,
    spec: TensorSpec,
    measure: tuple[tuple[int, ...], int, int],
    offset: int,
    *,
    nan: bool,
) -> Slice:
    """An input of a shape, a number of elements and a number of bytes, which begin at an offset."""
    shape, count, size = measure
    steps = _steps(tensor.datatype, spec, nan=nan)
    if tensor.datatype == "BYTES":
        steps = (partial(_strings, shape=shape, name=tensor.name), *steps)
        return Slice(tensor.name, _BYTE, (size,), offset, size, steps)
    dtype = WIRE_DTYPES[tensor.datatype]
    if count * dtype.itemsize != size:
        raise BadTensor(
            f"{tensor.datatype} of shape {list(shape)} has {count * dtype.itemsize} bytes, "
            f"the request says {size}",
            where=tensor.name,
        )
    if offset % dtype.itemsize:
        steps = (np.ndarray.copy, *steps)  # runtimes may rely on aligned elements
    return Slice(tensor.name, dtype, shape, offset, count, steps)


def _steps(datatype: str, spec: TensorSpec, *, nan: bool) -> tuple[Step, ...]:
    """What turns elements as they are on the wire into those that the model takes.

    Raises:
        BadTensor: the model does not take elements of this type.
    """
    name = spec.name
    steps: list[Step] = [from_bf16] if datatype == "BF16" else []
    carried = "FP32" if datatype == "BF16" else datatype
    if carried == spec.dtype:
        if carried in {"FP16", "FP32", "FP64"}:
            steps += _value_checks(spec, "any" if nan else "numbers")
        elif carried == "BOOL":
            steps.append(partial(refuse_other_bools, name=name))
    elif carried == "FP32" and spec.quantization is not None:
        steps += _value_checks(spec, "numbers")
        steps.append(partial(quantize, quantization=spec.quantization, dtype=spec.dtype))
    else:
        raise BadTensor(
            f"the model takes {spec.dtype}, not {datatype[:16]}",
            where=name,
            hint="FP32 is accepted for quantized inputs" if spec.quantization else "",
        )
    return tuple(steps)


def _value_checks(spec: TensorSpec, usual: Values) -> list[Step]:
    """What refuses the floating-point values that an input does not take."""
    values = spec.values or usual
    if values == "any":
        return []
    check = refuse_not_finite if values == "finite" else refuse_nan
    return [partial(check, name=spec.name)]


def _strings(array: Array, shape: tuple[int, ...], name: str) -> Array:
    return read_strings(array.data, shape, name)


def _raw_shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    if spec.dtype == "BYTES":
        return (1,) * max(1, len(spec.shape))
    fixed = math.prod(n for n in spec.shape if n >= 0)
    elements = size // NUMPY_DTYPES[spec.dtype].itemsize
    free = [index for index, n in enumerate(spec.shape) if n < 0]
    # The first free size is the batch; with it at 1, another one takes what is left.
    sizes = [1 if n < 0 else n for n in spec.shape]
    if len(free) > 1 and fixed:
        sizes[free[-1]] = elements // fixed
    return tuple(sizes)


def _has(prepared: Prepared, name: str) -> bool:
    slices = [*prepared.slices, *(part for _, part in prepared.external)]
    return name in prepared.ready or any(part.name == name for part in slices)
