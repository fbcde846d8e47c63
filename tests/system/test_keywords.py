"""The keyword model of MLPerf Tiny, signed and installed, asked through the daemon's socket."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.device import Device, UnixConnection, install_models
from tests.system.conftest import MakeDevice

MANIFEST = """
format = 1
name = "keywords"
version = "1.0.0"
task = "tensor"
engine = "tflite"
summary = "Twelve spoken words"
license = "Apache-2.0"
[[files]]
path = "model.tflite"
role = "model"
sha256 = "{sha256}"
size = {size}
[[inputs]]
name = "input_1"
dtype = "INT8"
shape = [-1, 49, 10, 1]
quantization = {{ scale = 0.5847029089927673, zero_point = 83 }}
[[outputs]]
name = "Identity"
dtype = "INT8"
shape = [-1, 12]
quantization = {{ scale = 0.00390625, zero_point = -128 }}
"""

Case = tuple[bytes, int]


@pytest.fixture(scope="module")
def keyword_models(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("kws")
    package = directory / "keywords"
    package.mkdir()
    model = (shared_data / "mlperf-tiny" / "kws_ref_model.tflite").read_bytes()
    (package / "model.tflite").write_bytes(model)
    text = MANIFEST.format(sha256=hashlib.sha256(model).hexdigest(), size=len(model))
    (package / "model.toml").write_text(text)
    return install_models(directory / "device", [package])


@pytest.fixture(scope="module")
def cases(shared_data: Path) -> list[Case]:
    """Inputs and their right class, those that are there."""
    folder = shared_data / "mlperf-tiny" / "kws"
    lines = (line.split(",") for line in (folder / "y_labels.csv").read_text().split())
    return [((folder / f).read_bytes(), int(c)) for f, _, c in lines if (folder / f).exists()]


@pytest.fixture
def device(make_device: MakeDevice, keyword_models: Path) -> Device:
    return make_device("", models=keyword_models).start()


def binary(device: Device, cases: list[Case]) -> Iterator[list[int]]:
    """Scores of each case, asked with binary tensors over one connection."""
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": "input_1",
                    "datatype": "INT8",
                    "shape": [1, 49, 10, 1],
                    "parameters": {"binary_data_size": 490},
                }
            ],
            "outputs": [{"name": "Identity", "parameters": {"binary_data": True}}],
        }
    ).encode()
    connection = UnixConnection(device.socket)
    for data, _ in cases:
        connection.request(
            "POST",
            "/v2/models/keywords/infer",
            head + data,
            {
                "Content-Type": "application/octet-stream",
                "Inference-Header-Content-Length": str(len(head)),
            },
        )
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, body
        skip = int(response.headers["Inference-Header-Content-Length"])
        yield np.frombuffer(body[skip:], np.int8).tolist()
    connection.close()


def test_at_least_nine_of_ten_keywords_are_right(device: Device, cases: list[Case]) -> None:
    """What the benchmark demands of the int8 model, through the socket and not only in process."""
    right = sum(
        int(np.argmax(scores)) == wanted
        for scores, (_, wanted) in zip(binary(device, cases), cases, strict=True)
    )
    assert len(cases) >= 500
    assert right / len(cases) >= 0.90


def test_json_and_binary_tensors_agree(device: Device, cases: list[Case]) -> None:
    some = cases[:20]
    for scores, (data, _) in zip(binary(device, some), some, strict=True):
        values = np.frombuffer(data, np.int8).tolist()
        tensor = {"name": "input_1", "datatype": "INT8", "shape": [1, 49, 10, 1], "data": values}
        answer = device.post("/v2/models/keywords/infer", json.dumps({"inputs": [tensor]}).encode())
        assert answer.status == 200, answer.body
        assert np.ravel(answer.json["outputs"][0]["data"]).tolist() == scores
