"""HTTP through Triton's own client, unchanged, over TCP with a token: to a real daemon."""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from tests.support.broker import free_port
from tests.support.device import Device, device, install_models
from tests.support.onnx_model import onnx_model
from tests.support.packages import write_package

#: Element type -> its number in ONNX. BF16 is asked of a model that takes FP32.
ELEMENTS = {
    "FP32": 1, "UINT8": 2, "INT8": 3, "UINT16": 4, "INT16": 5, "INT32": 6, "INT64": 7, "BYTES": 8,
    "BOOL": 9, "FP16": 10, "FP64": 11, "UINT32": 12, "UINT64": 13,
}  # fmt: skip
MODEL = "echo-int8"


@dataclass
class Served:
    """A daemon with a model for each element type that gives back what it gets."""

    device: Device
    client: triton.InferenceServerClient
    token: str

    @property
    def headers(self) -> dict[str, str]:
        """Anew for each call: the client writes the length of a request's JSON into it."""
        return {"Authorization": f"Bearer {self.token}"}

    def infer(self, model: str, given: triton.InferInput, **options: object) -> triton.InferResult:
        return self.client.infer(model, [given], headers=self.headers, **options)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    place, port, token = tmp_path_factory.mktemp("t"), free_port(), secrets.token_urlsafe(32)
    packages = [
        write_package(
            place / f"echo-{kind.lower()}",
            onnx_model("Identity", dtype=number),
            name=f"echo-{kind.lower()}",
            golden={},
        )
        for kind, number in ELEMENTS.items()
    ]
    digest = hashlib.sha256(token.encode()).hexdigest()
    config = f'tcp = "127.0.0.1:{port}"\ntokens = ["operator:{digest}"]\n'
    models = install_models(place / "m", packages)
    with device(place / "d", config, models) as made:
        made.start()
        client = triton.InferenceServerClient(f"127.0.0.1:{port}", concurrency=4)
        yield Served(made, client, token)
        client.close()


def values(kind: str) -> np.ndarray:
    random = np.random.default_rng(3)
    if kind == "BYTES":
        return np.array([[b"a", b"", "ü".encode(), b"\x00b"]], dtype=np.object_)
    if kind == "BOOL":
        return random.random((2, 4)) < 0.5
    dtype = np.dtype({"FP16": "f2", "FP32": "f4", "FP64": "f8"}.get(kind, kind.lower()))
    return (random.random((2, 4)) * 100).astype(dtype)


def given(array: np.ndarray, kind: str, *, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput("x", array.shape, kind)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def test_health_metadata_and_configuration(served: Served) -> None:
    client, headers = served.client, served.headers
    assert client.is_server_live(headers=headers)
    assert client.is_server_ready(headers=headers)
    assert client.get_server_metadata(headers=headers)["name"] == "edge-agent"
    assert client.get_model_metadata(MODEL, headers=headers)["inputs"][0]["datatype"] == "INT8"
    assert client.get_model_config(MODEL, headers=headers)["input"][0]["data_type"] == "TYPE_INT8"


@pytest.mark.parametrize("kind", ELEMENTS)
def test_every_element_type_comes_back_as_bytes(served: Served, kind: str) -> None:
    array = values(kind)
    found = served.infer(f"echo-{kind.lower()}", given(array, kind)).as_numpy("y")
    assert found.tolist() == array.tolist()


@pytest.mark.parametrize("kind", [kind for kind in ELEMENTS if kind not in {"FP16", "BYTES"}])
def test_every_element_type_comes_back_as_json(served: Served, kind: str) -> None:
    array = values(kind)
    wanted = triton.InferRequestedOutput("y", binary_data=False)
    request = given(array, kind, binary=False)
    found = served.infer(f"echo-{kind.lower()}", request, outputs=[wanted]).as_numpy("y")
    assert found.tolist() == array.tolist()


def test_bf16_is_read_for_a_model_of_fp32(served: Served) -> None:
    array = np.array([[1.0, -2.5, 0.0, 3.0]], np.float32)  # all of them are BF16 values
    request = triton.InferInput("x", array.shape, "BF16")
    request._raw_data = (array.view(np.uint32) >> 16).astype("<u2").tobytes()
    request._parameters["binary_data_size"] = len(request._raw_data)
    found = served.infer("echo-fp32", request).as_numpy("y")
    assert found.tolist() == array.tolist()


def test_shared_memory_is_not_for_callers_whom_the_kernel_does_not_know(served: Served) -> None:
    """Over TCP nobody has a user, and a region is its user's."""
    array = values("INT8")
    region = shm.create_shared_memory_region("r", "/edge_test_http", 2 * array.nbytes)
    try:
        shm.set_shared_memory_region(region, [array])
        with pytest.raises(InferenceServerException) as caught:
            served.client.register_system_shared_memory(
                "r", "/edge_test_http", 2 * array.nbytes, headers=served.headers
            )
        assert "socket" in str(caught.value).lower() or "caller" in str(caught.value).lower()
    finally:
        shm.destroy_shared_memory_region(region)


def test_the_repository_and_its_statistics(served: Served) -> None:
    client, headers = served.client, served.headers
    index = client.get_model_repository_index(headers=headers)
    assert {model["name"] for model in index} >= {MODEL}
    client.load_model(MODEL, headers=headers)
    served.infer(MODEL, given(values("INT8"), "INT8"))
    stats = client.get_inference_statistics(MODEL, headers=headers)["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] >= 1
    client.unload_model(MODEL, headers=headers)
    assert not client.is_model_ready(MODEL, headers=headers)
    served.infer(MODEL, given(values("INT8"), "INT8"))  # loaded again by its first request


def test_a_model_sent_with_the_request_is_not_loaded(served: Served) -> None:
    """Triton would take it, and it would go round the signature."""
    with pytest.raises(InferenceServerException, match="signed package"):
        served.client.load_model(
            MODEL, config="{}", files={"file:1/model.onnx": b"x"}, headers=served.headers
        )


def test_asynchronous_requests(served: Served) -> None:
    array = values("INT8")
    asked = [
        served.client.async_infer(MODEL, [given(array, "INT8")], headers=served.headers)
        for _ in range(20)
    ]
    assert all(a.get_result().as_numpy("y").tolist() == array.tolist() for a in asked)


@pytest.mark.parametrize(
    ("model", "array", "kind", "said"),
    [
        ("absent", values("INT8"), "INT8", "not installed"),
        (MODEL, values("FP32"), "FP32", "INT8"),
        (MODEL, values("INT8")[:, :3], "INT8", "shape"),
    ],
)
def test_errors_say_what_is_wrong(
    served: Served, model: str, array: np.ndarray, kind: str, said: str
) -> None:
    with pytest.raises(InferenceServerException, match=said):
        served.infer(model, given(np.ascontiguousarray(array), kind))


def test_without_a_token_nothing_is_answered(served: Served) -> None:
    with pytest.raises(InferenceServerException) as caught:
        served.client.infer(MODEL, [given(values("INT8"), "INT8")])
    assert caught.value.status() == "401"
