"""JSON requests that are met again: what is remembered never changes what a request means."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.api.oip.listed import MAX_LISTED, Listed
from agent.api.oip.request import Prepared, prepare
from agent.api.oip.response import encode
from agent.api.oip.signature import Signature
from agent.errors import AgentError
from agent.types import DType, TensorSpec

INT8 = TensorSpec("x", "INT8", (-1,))
SIGNATURE = Signature.of("m", "1.0.0", [INT8], [INT8])


def text(elements: str, shape: str = "[3]", more: str = "") -> bytes:
    tensor = f'{{"name":"x","datatype":"INT8","shape":{shape},"data":{elements}}}'
    return f'{{"inputs":[{tensor}]{more}}}'.encode()


def known(body: bytes, signature: Signature = SIGNATURE) -> Listed | None:
    return Listed.of(body, signature, prepare(body, len(body), signature))


def meaning(prepared: Prepared, body: bytes) -> Any:
    inputs = {name: array.tolist() for name, array in prepared.tensors(body).items()}
    said = (prepared.wanted, prepared.priority, prepared.timeout_s, prepared.names, prepared.flat)
    return inputs, *said, prepared.size


def from_the_start(body: bytes) -> Any:
    try:
        return meaning(prepare(body, len(body), SIGNATURE), body)
    except AgentError:
        return None


NUMBERS = st.lists(st.integers(-130, 130), min_size=2, max_size=4).map(json.dumps)
RUBBISH = st.text('[]{}",:0123 \\abx-', max_size=12)


@given(
    first=NUMBERS,
    second=NUMBERS | RUBBISH,
    more=st.sampled_from(["", ',"parameters":{"priority":2,"timeout":9}']),
)
@example(first="[1,2,3]", second='[1,2,3],"data":[4,5,6]', more="")
@example(first="[1,2,3]", second='[1,2,3]}],"inputs":[{"name":"x"', more="")
@example(first="[1,2,3]", second="[4,5,6] ", more="")
@example(first="[1,2,3]", second="[4,5]", more="")
@example(first="[1,2,3]", second='[1,2,3],"parameters":{}', more="")
def test_what_is_remembered_means_what_reading_from_the_start_means(
    first: str, second: str, more: str
) -> None:  # fmt: skip
    try:
        remembered = known(text(first, f"[{first.count(',') + 1}]", more))
    except AgentError:
        return
    assert remembered is not None
    body = text(second, f"[{first.count(',') + 1}]", more)
    again = remembered.again(body)
    if again is not None:
        assert meaning(again, body) == from_the_start(body)


def test_the_same_text_around_other_elements_is_met_again() -> None:
    remembered = known(text("[1, 2, 3]"))
    assert remembered is not None
    body = text("[-4,5,6]")
    again = remembered.again(body)
    assert again is not None
    assert again.tensors(body)["x"].tolist() == [-4, 5, 6]


@pytest.mark.parametrize(
    "body",
    [
        text("[3]", "[1]", ',"id":"[3]"'),
        text("[1]", "[1]"),
        text("[1, 2, 3]", more=',"id":"7"'),
        text("[" + "1," * MAX_LISTED + "1]", f"[{MAX_LISTED + 1}]"),
    ],
    ids=["elements that stand twice", "elements like the shape", "an id", "very large"],
)
def test_what_could_be_mistaken_is_not_remembered(body: bytes) -> None:
    assert known(body) is None


@pytest.mark.parametrize("dtype", ["INT8", "UINT8"])
def test_every_value_of_a_byte_is_written_as_it_is(dtype: DType) -> None:
    """These are written by a table of texts instead of one by one."""
    spec = TensorSpec("x", dtype, (-1,))
    signature = Signature.of("m", "1.0.0", [spec], [spec])
    low = -128 if dtype == "INT8" else 0
    values = np.arange(low, low + 256).astype(dtype.lower())
    tensor = {"name": "x", "datatype": dtype, "shape": [1], "data": [1]}
    asked = json.dumps({"inputs": [tensor]}).encode()
    prepared = prepare(asked, len(asked), signature)
    for array in (values, values[::-2], values.reshape(2, 128).T, values[:0]):
        answer, _ = encode({"x": array}, prepared, signature)
        assert json.loads(answer)["outputs"][0].get("data", []) == array.ravel().tolist()
