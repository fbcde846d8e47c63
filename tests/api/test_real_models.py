"""Real quantized models through the real socket."""

import json
from pathlib import Path

import numpy as np

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.types import Array
from tests.fakes.engine import FakeModel, FakeModels, zeros
from tests.support.served import Serve, Served
from tests.support.wire import Wire


def real(path: Path, name: str, typical_s: float = 1e-5) -> FakeModel:
    session = load_session("tflite", path.read_bytes(), EngineOptions())
    return FakeModel(session, name, typical_s=typical_s)


async def ask(wire: Wire, model: FakeModel, array: Array, *, datatype: str = "INT8") -> Array:
    """The first output for one binary input."""
    spec = model.session.inputs[0]
    text = json.dumps({
        "inputs": [{"name": spec.name, "datatype": datatype, "shape": array.shape,
                    "parameters": {"binary_data_size": array.nbytes}}],
        "parameters": {"binary_data_output": True},
    }).encode()  # fmt: skip
    headers = {"Inference_Header_Content_Length": str(len(text))}
    path = f"/v2/models/{model.ref.name}/infer"
    reply = await wire.call("POST", path, text + array.tobytes(), **headers)
    assert reply.status == 200, reply.body
    size = int(reply.headers["inference-header-content-length"])
    output = json.loads(reply.body[:size])["outputs"][0]
    return np.frombuffer(reply.body[size:], np.int8).reshape(output["shape"])


async def served_like_in_process(api: Served, model: FakeModel) -> None:
    wire = await api.connect()
    spec = model.session.inputs[0]
    random = np.random.default_rng(7)
    for _ in range(20):
        array = random.integers(-128, 128, zeros(spec).shape).astype(np.int8)
        expected = model.run({spec.name: array})[model.session.outputs[0].name]
        np.testing.assert_array_equal(await ask(wire, model, array), expected)


async def test_the_socket_answers_what_the_session_computes(
    serve: Serve, shared_data: Path
) -> None:
    """Bit for bit, inline and in a thread."""
    path = shared_data / "mlperf-tiny" / "ad01_int8.tflite"
    for typical_s in (1e-5, 1.0):
        model = real(path, "ad01", typical_s)
        async with serve(FakeModels(model)) as api:
            await served_like_in_process(api, model)


async def test_real_numbers_are_quantized_by_the_models_own_scale(
    serve: Serve, shared_data: Path
) -> None:
    model = real(shared_data / "mlperf-tiny" / "ad01_int8.tflite", "ad01")
    quantization = model.session.inputs[0].quantization
    assert quantization is not None
    stored = np.arange(640, dtype=np.int64).reshape(1, 640) % 256 - 128
    real_values = ((stored - quantization.zero_point) * quantization.scale).astype(np.float32)
    async with serve(FakeModels(model)) as api:
        wire = await api.connect()
        np.testing.assert_array_equal(
            await ask(wire, model, real_values, datatype="FP32"),
            await ask(wire, model, stored.astype(np.int8)),
        )


async def test_keywords_are_understood_through_the_socket(serve: Serve, shared_data: Path) -> None:
    """At least 90 % of the benchmark's labelled inputs, as its rules ask."""
    directory = shared_data / "mlperf-tiny"
    model = real(directory / "kws_ref_model.tflite", "kws")
    lines = (directory / "kws" / "y_labels.csv").read_text().split()
    labels = {name: int(label) for name, _, label in (line.split(",") for line in lines)}
    right = 0
    async with serve(FakeModels(model)) as api:
        wire = await api.connect()
        for name, label in labels.items():
            data = np.fromfile(directory / "kws" / name, np.int8).reshape(1, 49, 10, 1)
            right += int((await ask(wire, model, data)).argmax()) == label
    assert right / len(labels) >= 0.90
