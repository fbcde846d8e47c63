"""From a ModelInferRequest to the request of the HTTP route, whatever a client writes."""

import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2 as triton

from agent.api.grpc.codec import Codec, split_raw
from agent.errors import AgentError, BadPayload, BadTensor


def request(*tensors, raws=(), **fields):
    made = triton.ModelInferRequest(model_name="m", **fields)
    for name, datatype, shape in tensors:
        made.inputs.add(name=name, datatype=datatype, shape=shape)
    made.raw_input_contents.extend(raws)
    return made


def test_raw_contents_follow_the_description_in_order():
    made = request(("a", "INT8", [2]), ("b", "FP32", [1]), raws=[b"\1\2", b"\0\0\x80\x3f"], id="7")
    asked = Codec().request(made.SerializeToString())
    header = json.loads(asked.header)
    assert (asked.name, asked.version, asked.body) == ("m", None, b"\1\2\0\0\x80\x3f")
    assert [t["parameters"]["binary_data_size"] for t in header["inputs"]] == [2, 4]
    assert header["id"] == "7"
    assert header["parameters"]["binary_data_output"] is True


def test_the_same_description_with_other_bytes_is_understood_once():
    codec = Codec()
    first, second = (
        codec.request(request(("a", "INT8", [1]), raws=[bytes([n])]).SerializeToString())
        for n in range(2)
    )
    assert first.header is second.header
    assert (first.body, second.body) == (b"\0", b"\1")


def test_the_same_description_with_another_size_is_another_request():
    codec = Codec()
    sizes = []
    for raw in (b"\1", b"\1\2"):
        asked = codec.request(request(("a", "INT8", [-1]), raws=[raw]).SerializeToString())
        sizes.append(json.loads(asked.header)["inputs"][0]["parameters"]["binary_data_size"])
    assert sizes == [1, 2]


@pytest.mark.parametrize(
    ("datatype", "field", "values", "wanted"),
    [
        ("BOOL", "bool_contents", [True, False], b"\1\0"),
        ("INT8", "int_contents", [-1, 127], b"\xff\x7f"),
        ("UINT16", "uint_contents", [1, 65535], b"\1\0\xff\xff"),
        ("INT64", "int64_contents", [-1], b"\xff" * 8),
        ("UINT64", "uint64_contents", [2**64 - 1], b"\xff" * 8),
        ("FP32", "fp32_contents", [1.0], b"\0\0\x80\x3f"),
        ("FP64", "fp64_contents", [1.0], np.float64(1).tobytes()),
        ("BYTES", "bytes_contents", [b"ab", b""], b"\2\0\0\0ab\0\0\0\0"),
    ],
)
def test_typed_contents_become_the_same_bytes(datatype, field, values, wanted):
    made = request(("a", datatype, [len(values)]))
    getattr(made.inputs[0].contents, field).extend(values)
    assert Codec().request(made.SerializeToString()).body == wanted


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("INT8", "int_contents", [128]),  # does not fit
        ("UINT8", "uint_contents", [256]),
        ("FP16", "fp32_contents", [1.0]),  # comes raw only
        ("INT8", "fp32_contents", [1.0]),  # another type's field
        ("QINT4", "int_contents", [1]),
    ],
)
def test_contents_that_do_not_fit_their_type_are_refused(datatype, field, values):
    made = request(("a", datatype, [1]))
    getattr(made.inputs[0].contents, field).extend(values)
    with pytest.raises(BadTensor):
        Codec().request(made.SerializeToString())


def test_contents_and_raw_contents_together_are_refused():
    made = request(("a", "INT8", [1]), raws=[b"\1"])
    made.inputs[0].contents.int_contents.append(1)
    with pytest.raises(BadPayload, match="exclude each other"):
        Codec().request(made.SerializeToString())


@pytest.mark.parametrize("raws", [[], [b"\1", b"\2"]])
def test_as_many_contents_as_inputs_are_needed(raws):
    with pytest.raises((BadPayload, BadTensor)):
        Codec().request(request(("a", "INT8", [1]), raws=raws).SerializeToString())


def test_parameters_and_outputs_are_passed_on():
    made = request(("a", "INT8", [4]))
    made.parameters["priority"].int64_param = 1
    made.inputs[0].parameters["shared_memory_region"].string_param = "r"
    made.inputs[0].parameters["shared_memory_byte_size"].int64_param = 4
    made.outputs.add(name="y").parameters["dequantize"].bool_param = True
    header = json.loads(Codec().request(made.SerializeToString()).header)
    assert header["parameters"]["priority"] == 1
    assert header["inputs"][0]["parameters"] == {
        "shared_memory_region": "r", "shared_memory_byte_size": 4
    }  # fmt: skip
    assert header["outputs"][0]["parameters"] == {"dequantize": True, "binary_data": True}


def test_an_answer_is_read_by_tritons_client():
    header = json.dumps({
        "model_name": "m", "model_version": "1.0.0", "id": "7",
        "outputs": [
            {"name": "y", "datatype": "INT8", "shape": [2], "parameters": {"binary_data_size": 2}},
            {"name": "z", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}},
        ],
    }).encode()  # fmt: skip
    codec = Codec()
    for raws in ([b"\1\2", b"abcd"], [memoryview(b"\3\4"), b"efgh"]):
        read = triton.ModelInferResponse.FromString(codec.answer(header, raws))
        assert (read.model_name, read.id) == ("m", "7")
        assert [tuple(t.shape) for t in read.outputs] == [(2,), (1,)]
        assert list(read.raw_output_contents) == [bytes(raw) for raw in raws]


@given(st.binary(max_size=200))
def test_whatever_arrives_is_understood_or_refused(data):
    with suppress(AgentError):
        Codec().request(data)


@given(st.lists(st.binary(max_size=40), max_size=5), st.text(max_size=20))
def test_a_message_is_cut_into_description_and_raw_contents(raws, name):
    made = triton.ModelInferRequest(model_name=name, raw_input_contents=raws)
    described, found = split_raw(made.SerializeToString())
    assert found == raws
    assert triton.ModelInferRequest.FromString(described).model_name == name
