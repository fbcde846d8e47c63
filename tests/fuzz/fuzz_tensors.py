#!/usr/bin/env python3
"""Arbitrary bytes as inference requests; see README.md."""

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["agent"]):
    from agent.api.oip.request import prepare, prepare_raw
    from agent.api.oip.response import encode
    from agent.api.oip.signature import Signature
    from agent.errors import AgentError
    from agent.types import Quantization, TensorSpec

SIGNATURES = [
    Signature.of(
        "fuzzed", "1.0.0",
        [
            TensorSpec("x", "INT8", (-1, 4), quantization=Quantization(0.5, 1)),
            TensorSpec("f", "FP32", (-1, -1)),
            TensorSpec("s", "BYTES", (-1,)),
            TensorSpec("b", "BOOL", (2,)),
        ],
        [
            TensorSpec("x", "INT8", (-1, 4), quantization=Quantization(0.5, 1)),
            TensorSpec("f", "FP32", (-1, -1)),
            TensorSpec("s", "BYTES", (-1,)),
            TensorSpec("b", "BOOL", (2,)),
        ],
    ),
    *(
        Signature.of("fuzzed", "1.0.0", [TensorSpec("x", dtype, shape)], [TensorSpec("x", dtype, shape)])
        for dtype in ("INT64", "FP16", "FP64", "UINT8", "BYTES", "BOOL")
        for shape in ((-1, 4), (-1, -1, 2))
    ),
]  # fmt: skip


def ask(data: bytes) -> None:
    """Whatever a client may send: which model, how much of the body is JSON, and the body."""
    if len(data) < 4:
        return
    signature = SIGNATURES[data[0] % len(SIGNATURES)]
    header_length = int.from_bytes(data[1:3], "little") % 4096
    body = data[4:]
    try:
        if data[3] & 1:
            header_length = len(body)
        prepared = (
            prepare_raw(body, signature)
            if data[3] & 2
            else prepare(body, min(header_length, len(body) + 1), signature)
        )
        tensors = prepared.tensors(body)
    except AgentError:
        return
    try:
        encode(tensors, prepared, signature)  # a model that answers what it was asked
    except AgentError:
        return


def seeds(directory: Path) -> None:
    """Requests that are right, to begin from."""
    texts = [
        b'{"inputs":[{"name":"x","datatype":"INT64","shape":[1,4],"data":[1,2,3,4]}]}',
        (
            b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,4],"data":[1.5,2,3,4]},'
            b'{"name":"f","datatype":"BF16","shape":[1,2],"parameters":{"binary_data_size":4}},'
            b'{"name":"s","datatype":"BYTES","shape":[2],"data":["a","b"]},'
            b'{"name":"b","datatype":"BOOL","shape":[2],"data":[true,false]}],'
            b'"outputs":[{"name":"x","parameters":{"dequantize":true,"binary_data":true}}]}'
        ),
        (
            b'{"id":"7","inputs":[{"name":"x","datatype":"BYTES","shape":[1,4],'
            b'"parameters":{"binary_data_size":20}}],"parameters":{"binary_data_output":true}}'
        ),
    ]
    for number, text in enumerate(texts):
        for model in range(len(SIGNATURES)):
            head = bytes([model]) + len(text).to_bytes(2, "little") + bytes([0])
            body = text + b"\x01\x00\x00\x00a" * 4
            (directory / f"{number}-{model}").write_bytes(head + body)


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as corpus:
        seeds(Path(corpus))
        atheris.Setup([*sys.argv, corpus], ask)
        atheris.Fuzz()
