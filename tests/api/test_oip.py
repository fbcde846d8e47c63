"""The Open Inference Protocol's codec, without a socket: what is understood, and what is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agent.api.oip.elements import WIRE_DTYPES, read_strings, write_strings
from agent.api.oip.request import Prepared, prepare, prepare_raw
from agent.api.oip.response import encode
from agent.api.oip.signature import Signature
from agent.engines.base import NUMPY_DTYPES
from agent.errors import AgentError, BadPayload, BadTensor
from agent.types import Array, DType, Quantization, TensorSpec


def signature(*specs: TensorSpec, nan: bool = False) -> Signature:
    """A model that takes and gives the same tensors."""
    return Signature.of("m", "1.0.0", specs, specs, nan=nan)


def spec(dtype: DType, *shape: int, name: str = "x", **more: Any) -> TensorSpec:
    return TensorSpec(name, dtype, shape or (-1,), **more)


def message(inputs: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def binary(dtype: str, shape: list[int], data: bytes, **more: Any) -> tuple[bytes, int]:
    """A body with one binary tensor, and the length of its JSON."""
    tensor = {
        "name": "x", "datatype": dtype, "shape": shape,
        "parameters": {"binary_data_size": len(data)},
    }  # fmt: skip
    text = message([tensor], **more)
    return text + data, len(text)


def read(body: bytes, length: int, model: Signature) -> dict[str, Array]:
    return prepare(body, length, model).tensors(body)


def in_json(dtype: str, shape: list[int], data: Any) -> bytes:
    return message([{"name": "x", "datatype": dtype, "shape": shape, "data": data}])


# Understanding

ARRAYS: dict[DType, Array] = {
    dtype: (np.arange(6) % 2).astype(numpy_dtype).reshape(2, 3)
    for dtype, numpy_dtype in NUMPY_DTYPES.items()
    if dtype != "BYTES"
}


@pytest.mark.parametrize("dtype", ARRAYS)
def test_each_type_comes_in_as_bytes(dtype: DType) -> None:
    array = ARRAYS[dtype]
    body, length = binary(dtype, [2, 3], array.tobytes())
    got = read(body, length, signature(spec(dtype, -1, 3)))["x"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("dtype", ARRAYS)
@pytest.mark.parametrize("nested", [True, False])
def test_each_type_comes_in_as_json(dtype: DType, nested: bool) -> None:
    array = ARRAYS[dtype]
    values = array.tolist() if nested else array.ravel().tolist()
    body = in_json(dtype, [2, 3], values)
    got = read(body, len(body), signature(spec(dtype, -1, 3)))["x"]
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_bf16_is_read_as_fp32() -> None:
    """1.0 is 0x3F80, -2.5 is 0xC020."""
    body, length = binary("BF16", [2], bytes.fromhex("803f20c0"))
    got = read(body, length, signature(spec("FP32")))["x"]
    assert got.dtype == np.float32
    assert got.tolist() == [1.0, -2.5]


def test_fp32_is_quantized_for_an_integer_input() -> None:
    model = signature(spec("INT8", quantization=Quantization(0.5, 10)))
    values = np.array([0, 1, -1, 1000], np.float32)
    body, length = binary("FP32", [4], values.tobytes())
    assert read(body, length, model)["x"].tolist() == [10, 12, 8, 127]
    body = in_json("FP32", [4], values.tolist())
    assert read(body, len(body), model)["x"].tolist() == [10, 12, 8, 127]


def test_strings_come_in_both_ways() -> None:
    model = signature(spec("BYTES", -1))
    body, length = binary("BYTES", [2], b"\x02\0\0\0ab\0\0\0\0")
    assert read(body, length, model)["x"].tolist() == [b"ab", b""]
    body = in_json("BYTES", [2], ["ab", "é"])
    assert read(body, len(body), model)["x"].tolist() == [b"ab", "é".encode()]


def test_json_and_binary_inputs_mix() -> None:
    model = signature(
        spec("INT8", 2, name="a"), spec("FP32", 1, name="b"), spec("INT16", 1, name="c")
    )
    text = message([
        {"name": "a", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
        {"name": "b", "datatype": "FP32", "shape": [1], "data": [1.5]},
        {"name": "c", "datatype": "INT16", "shape": [1], "parameters": {"binary_data_size": 2}},
    ])  # fmt: skip
    got = read(text + b"\x01\x02\x03\x04", len(text), model)
    assert {name: array.tolist() for name, array in got.items()} == {
        "a": [1, 2],
        "b": [1.5],
        "c": [0x0403],
    }


def test_a_raw_body_is_the_only_input_with_batch_1() -> None:
    body = np.arange(4, dtype=np.float32).tobytes()
    prepared = prepare_raw(body, signature(spec("FP32", -1, 4)))
    got = prepared.tensors(body)["x"]
    assert got.tolist() == [[0, 1, 2, 3]]
    assert [wanted.binary for wanted in prepared.wanted] == [True]


def test_elements_that_are_not_aligned_are_moved() -> None:
    """Runtimes may rely on it."""
    for spaces in range(4):
        data = np.arange(2, dtype=np.float32).tobytes()
        body, length = binary("FP32", [2], data)
        body, length = body[:1] + b" " * spaces + body[1:], length + spaces
        array = read(body, length, signature(spec("FP32")))["x"]
        assert array.flags.aligned
        assert array.tolist() == [0, 1]


def test_nan_is_taken_where_the_model_says_so() -> None:
    body, length = binary("FP32", [1], np.array([np.nan], np.float32).tobytes())
    assert math.isnan(read(body, length, signature(spec("FP32"), nan=True))["x"][0])


# Refusing

FP32 = spec("FP32", -1, 2)
NAN = np.array([[1, np.nan]], np.float32).tobytes()

BAD_TENSORS: dict[str, tuple[bytes, int]] = {
    "a number that is none": binary("FP32", [1, 2], NAN),
    "too few bytes": binary("FP32", [1, 2], b"1234"),
    "too many bytes": binary("FP32", [1, 2], b"123456789"),
    "a product that overflows": binary("FP32", [2**32, 2**32, 2**32], b""),
    "a product that overflows and is nothing": binary("FP32", [2**62, 8], b"1234"),
    "a negative size": binary("FP32", [-1, 2], b"12345678"),
    "another type": binary("INT8", [1, 2], b"12"),
    "a type that is none": binary("FP99", [1, 2], b"12"),
    "strings for numbers": binary("BYTES", [1, 2], b"\0\0\0\0\0\0\0\0"),
    "seventeen dimensions": binary("FP32", [1] * 17, b"1234"),
}


@pytest.mark.parametrize(("body", "length"), BAD_TENSORS.values(), ids=BAD_TENSORS)
def test_tensors_that_are_not_the_models_are_refused_by_name(body: bytes, length: int) -> None:
    with pytest.raises(BadTensor) as caught:
        read(body, length, signature(FP32))
    assert caught.value.where == "x"


BAD_JSON_DATA: dict[str, tuple[str, list[int], Any]] = {
    "a float for an integer": ("INT8", [1], [1.5]),
    "a boolean for an integer": ("INT8", [1], [True]),
    "a string for a number": ("INT8", [1], ["1"]),
    "nothing for a number": ("INT8", [1], [None]),
    "no list": ("INT8", [1], 1),
    "an integer that is too large": ("INT8", [1], [128]),
    "an integer that is too small": ("INT8", [1], [-129]),
    "an integer beyond 64 bits": ("INT8", [1], [10**30]),
    "fewer elements": ("INT8", [3], [1, 2]),
    "more elements": ("INT8", [1], [1, 2]),
    "another nesting": ("INT8", [2, 2], [[1, 2, 3], [4]]),
    "deeper nesting": ("INT8", [2], [[1], [2]]),
    "a nesting that is uneven": ("INT8", [2, 2], [[1, 2], 3, 4]),
}


@pytest.mark.parametrize(("dtype", "shape", "data"), BAD_JSON_DATA.values(), ids=BAD_JSON_DATA)
def test_json_data_that_does_not_fit_is_refused_by_name(
    dtype: str, shape: list[int], data: Any
) -> None:
    body = in_json(dtype, shape, data)
    with pytest.raises(BadTensor) as caught:
        read(body, len(body), signature(spec("INT8")))
    assert caught.value.where == "x"


@pytest.mark.parametrize(
    "data",
    [b'["\xa1"]', b'[1,"\xa1"]', b'[[1],"\xff"]', b'{"\xa1":1}'],
    ids=["alone", "behind a number", "behind a list", "as a key"],
)
def test_text_that_is_not_utf_8_behind_another_mistake_is_refused_by_name(data: bytes) -> None:
    """Found by fuzzing: the second look at what is no flat list of numbers met it unprepared."""
    body = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1],"data":%b}]}' % data
    with pytest.raises(BadTensor) as caught:
        read(body, len(body), signature(spec("INT8")))
    assert caught.value.where == "x"


def test_a_float_that_is_too_large_for_its_type_is_refused() -> None:
    body = in_json("FP16", [1], [1e6])
    with pytest.raises(BadTensor, match="does not fit"):
        read(body, len(body), signature(spec("FP16")))


def test_a_byte_that_is_no_bool_is_refused() -> None:
    body, length = binary("BOOL", [2], b"\x01\x02")
    with pytest.raises(BadTensor, match="0 or 1"):
        read(body, length, signature(spec("BOOL")))


BAD_STRINGS = {
    "a length over the end": b"\xff\xff\xff\xffab",
    "an end within a length": b"\x01\0\0\0a\0\0",
    "bytes after the last": b"\0\0\0\0\0\0\0\0x",
}


@pytest.mark.parametrize("data", BAD_STRINGS.values(), ids=BAD_STRINGS)
def test_strings_that_do_not_fit_their_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadTensor):
        read_strings(data, [2], "x")


def test_more_strings_than_bytes_take_no_memory() -> None:
    with pytest.raises(BadTensor, match="do not fit"):
        read_strings(b"\0\0\0\0", [2**39], "x")


BAD_MESSAGES: dict[str, tuple[dict[str, Any], str]] = {
    "an input that is missing": ({"inputs": []}, "x"),
    "an input that is unknown": (
        {"inputs": [{"name": "y", "datatype": "INT8", "shape": [1], "data": [1]}]},
        "y",
    ),
    "an input that comes twice": (
        {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}] * 2},
        "x",
    ),
    "an input without data": ({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}]}, "x"),
    "a size that is no number": (
        {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": "1"}}]},
        "x",
    ),
    "an output that is unknown": (
        {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}],
         "outputs": [{"name": "y"}]},
        "y",
    ),
    "an output dequantized that has no scale": (
        {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}],
         "outputs": [{"name": "x", "parameters": {"dequantize": True}}]},
        "x",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "where"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
def test_requests_that_ask_for_what_is_not_there_are_refused_by_name(
    fields: dict[str, Any], where: str
) -> None:
    body = json.dumps(fields).encode()
    with pytest.raises(BadTensor) as caught:
        read(body, len(body), signature(spec("INT8")))
    assert caught.value.where == where


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"{}", b'{"inputs": 1}', b"[" * 5000, b"\xff", b'{"inputs":[{}]}']
)
def test_what_is_not_a_request_is_refused(body: bytes) -> None:
    with pytest.raises(BadPayload):
        read(body, len(body), signature(FP32))


def test_a_header_longer_than_the_body_is_refused() -> None:
    with pytest.raises(BadPayload) as caught:
        prepare(b"{}", 3, signature(FP32))
    assert caught.value.where == "Inference-Header-Content-Length"


def test_a_body_that_is_not_what_the_tensors_need_is_refused() -> None:
    body, length = binary("FP32", [1, 2], b"12345678")
    for wrong in (body[:-1], body + b"x"):
        with pytest.raises(BadPayload):
            read(wrong, length, signature(FP32))


def test_a_raw_body_of_another_size_is_refused() -> None:
    with pytest.raises(BadTensor):
        prepare_raw(b"123", signature(FP32))
    with pytest.raises(BadTensor):
        prepare_raw(b"123", signature(spec("INT8", name="a"), spec("INT8", name="b")))


# Answering


def answer(prepared: Prepared, model: Signature, **outputs: Array) -> tuple[dict[str, Any], bytes]:
    text, parts = encode(outputs, prepared, model)
    return json.loads(text), b"".join(parts)


def test_outputs_come_as_asked_and_the_id_comes_back() -> None:
    model = signature(
        spec("INT8", name="a", quantization=Quantization(0.5, 1)), spec("INT8", name="b")
    )
    inputs = [{"name": n, "datatype": "INT8", "shape": [1], "data": [1]} for n in "ab"]
    outputs = [
        {"name": "b", "parameters": {"binary_data": True}},
        {"name": "a", "parameters": {"dequantize": True}},
    ]
    body = message(inputs, outputs=outputs, id="seven")
    reply, data = answer(
        prepare(body, len(body), model), model, a=np.array([3], np.int8), b=np.array([4], np.int8)
    )
    assert reply == {
        "model_name": "m", "model_version": "1.0.0", "id": "seven",
        "outputs": [
            {"name": "b", "datatype": "INT8", "shape": [1], "parameters": {"binary_data_size": 1}},
            {"name": "a", "datatype": "FP32", "shape": [1], "data": [1.0]},
        ],
    }  # fmt: skip
    assert data == b"\x04"


def test_a_repeated_request_is_answered_with_its_own_sizes() -> None:
    """The JSON part of an answer is kept; other shapes and string lengths get their own."""
    model = signature(spec("BYTES", -1))
    body, length = binary("BYTES", [1], b"\0\0\0\0", parameters={"binary_data_output": True})
    prepared = prepare(body, length, model)
    for strings in ([b"a"], [b"abc"], [b"a", b"b"], [b"z"]):
        reply, data = answer(prepared, model, x=np.array(strings, np.object_))
        assert reply["outputs"][0]["shape"] == [len(strings)]
        assert reply["outputs"][0]["parameters"]["binary_data_size"] == len(data)


def test_what_json_has_no_word_for_is_null() -> None:
    body = in_json("FP32", [2], [1, 2])
    model = signature(spec("FP32"))
    reply, _ = answer(
        prepare(body, len(body), model), model, x=np.array([np.nan, np.inf], np.float32)
    )
    assert reply["outputs"][0]["data"] == [None, None]


# Properties

NUMERIC = sorted(ARRAYS)


@st.composite
def tensors(draw: st.DrawFn) -> tuple[DType, Array]:
    dtype: DType = draw(st.sampled_from(NUMERIC))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    elements = {"allow_nan": False, "allow_infinity": False} if dtype.startswith("FP") else {}
    strategy = hnp.arrays(
        NUMPY_DTYPES[dtype], shape, elements=hnp.from_dtype(NUMPY_DTYPES[dtype], **elements)
    )
    return dtype, draw(strategy)


@given(tensors(), st.booleans(), st.booleans())
def test_what_goes_in_comes_out(tensor: tuple[DType, Array], as_bytes: bool, back: bool) -> None:
    """Any tensor of any type, in either form, in either direction, element for element."""
    dtype, array = tensor
    model = signature(spec(dtype, *(-1 for _ in array.shape)))
    model = Signature.of(
        "m", "1", [TensorSpec("x", dtype, array.shape)], [TensorSpec("x", dtype, array.shape)]
    )
    if as_bytes:
        body, length = binary(
            dtype, list(array.shape), array.tobytes(), parameters={"binary_data_output": back}
        )
    else:
        body = message(
            [
                {
                    "name": "x",
                    "datatype": dtype,
                    "shape": list(array.shape),
                    "data": array.ravel().tolist(),
                }
            ],
            parameters={"binary_data_output": back},
        )
        length = len(body)
    prepared = prepare(body, length, model)
    got = prepared.tensors(body)["x"]
    assert got.shape == array.shape
    np.testing.assert_array_equal(got, array)
    reply, data = answer(prepared, model, x=got)
    output = reply["outputs"][0]
    assert output["shape"] == list(array.shape)
    again = np.frombuffer(data, array.dtype) if back else np.array(output["data"], array.dtype)
    np.testing.assert_array_equal(again, array.ravel())


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_strings_go_through(strings: list[bytes]) -> None:
    array = np.empty(len(strings), np.object_)
    array[:] = strings
    assert read_strings(write_strings(array), [len(strings)], "x").tolist() == strings


MODELS = [
    signature(spec("FP32", -1, 2)),
    signature(spec("BYTES", -1)),
    signature(spec("INT8", 2, quantization=Quantization(0.1)), spec("BOOL", -1, name="y")),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
INPUT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["x", "y"]) | st.text(max_size=2),
        "datatype": st.sampled_from([*WIRE_DTYPES, "BYTES", "", "X"]),
        "shape": st.lists(st.integers(-2, 5) | st.integers(), max_size=4),
    },
    optional={
        "data": JSON,
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-1, 20) | JSON),
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(INPUT, max_size=3)},
    optional={"id": st.text(max_size=3), "outputs": JSON, "parameters": JSON},
)


@given(st.binary(max_size=64), st.integers(-5, 80), st.sampled_from(MODELS))
def test_arbitrary_bytes_raise_nothing_but_our_errors(
    body: bytes, length: int, model: Signature
) -> None:
    try:
        prepared = prepare_raw(body, model) if length <= 0 else prepare(body, length, model)
        prepared.tensors(body)
    except AgentError:
        pass


@given(REQUEST, st.binary(max_size=30), st.sampled_from(MODELS))
def test_requests_that_look_right_raise_nothing_but_our_errors(
    fields: dict[str, Any], data: bytes, model: Signature
) -> None:
    text = json.dumps(fields).encode()
    try:
        prepared = prepare(text + data, len(text), model)
        prepared.tensors(text + data)
    except AgentError:
        pass
