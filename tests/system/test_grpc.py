"""gRPC through Triton's own client, unchanged, over the Unix socket of a real daemon."""

import queue
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from tests.support.device import Device
from tests.support.device import device as new_device
from tests.system.conftest import PIPELINE

MODEL = "pump-anomaly"
SHAPE = (2, 3, 32)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory, pump_models: Path) -> Iterator[Device]:
    """One for all of these tests: they only ask."""
    place = tmp_path_factory.mktemp("g")
    with new_device(place / "d", "grpc = true\n" + PIPELINE, pump_models) as made:
        yield made.start()


@pytest.fixture
def client(device: Device) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"unix:{device.socket}.grpc") as made:
        yield made


def window(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-20, 20, SHAPE).astype(np.int8)


def infer_input(array: np.ndarray) -> triton.InferInput:
    given = triton.InferInput("window", array.shape, "INT8")
    given.set_data_from_numpy(array)
    return given


def by_http(device: Device, array: np.ndarray) -> list[int]:
    body = {
        "inputs": [
            {"name": "window", "shape": list(array.shape), "datatype": "INT8",
             "data": array.ravel().tolist()}
        ]
    }  # fmt: skip
    import json

    answer = device.post(f"/v2/models/{MODEL}/infer", json.dumps(body).encode())
    data: list[int] = answer.json["outputs"][0]["data"]
    return data


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(MODEL)
    assert client.get_server_metadata().name == "edge-agent"
    found = client.get_model_metadata(MODEL)
    assert [(t.name, t.datatype, list(t.shape)) for t in found.inputs] == [
        ("window", "INT8", [-1, 3, 32])
    ]
    assert client.get_model_config(MODEL).config.input[0].data_type == 6  # TYPE_INT8


def test_inference_gives_what_http_gives(
    client: triton.InferenceServerClient, device: Device
) -> None:
    for seed in range(3):
        array = window(seed)
        found = client.infer(MODEL, [infer_input(array)], request_id=str(seed))
        assert found.get_response().id == str(seed)
        assert found.as_numpy("evidence").ravel().tolist() == by_http(device, array)


def test_a_stream_answers_each_message_in_order_and_outlives_a_bad_one(
    client: triton.InferenceServerClient,
) -> None:
    answers: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number in range(5):
        client.async_stream_infer(MODEL, [infer_input(window(number))], request_id=str(number))
    client.async_stream_infer("absent", [infer_input(window())])
    client.async_stream_infer(MODEL, [infer_input(window())], request_id="last")
    found = [answers.get(timeout=20) for _ in range(7)]
    client.stop_stream()
    ids = [result.get_response().id for result, error in found if result is not None]
    assert ids == ["0", "1", "2", "3", "4", "last"]
    assert "request.not_found" in str(found[5][1])


def test_asynchronous_calls_are_all_answered(client: triton.InferenceServerClient) -> None:
    answers: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()
    for number in range(50):
        client.async_infer(
            MODEL, [infer_input(window(number))], lambda result, error: answers.put((result, error))
        )
    found = [answers.get(timeout=20) for _ in range(50)]
    assert all(error is None for _, error in found)


def test_tensors_in_shared_memory(client: triton.InferenceServerClient, device: Device) -> None:
    array = window(9)
    given = shm.create_shared_memory_region("in", "/edge_test_grpc", array.nbytes)
    try:
        shm.set_shared_memory_region(given, [array])
        client.register_system_shared_memory("in", "/edge_test_grpc", array.nbytes)
        assert list(client.get_system_shared_memory_status().regions) == ["in"]
        source = triton.InferInput("window", array.shape, "INT8")
        source.set_shared_memory("in", array.nbytes)
        found = client.infer(MODEL, [source])
        assert found.as_numpy("evidence").ravel().tolist() == by_http(device, array)
        client.unregister_system_shared_memory("in")
        assert not client.get_system_shared_memory_status().regions
    finally:
        shm.destroy_shared_memory_region(given)


def test_the_repository_is_seen_loaded_and_unloaded(
    client: triton.InferenceServerClient,
) -> None:
    (model,) = client.get_model_repository_index().models
    assert (model.name, model.state) == (MODEL, "READY")
    client.load_model(MODEL)
    client.infer(MODEL, [infer_input(window())])
    stats = client.get_inference_statistics(MODEL).model_stats[0]
    assert stats.inference_stats.success.count >= 1


def test_log_settings_are_seen_and_changed(client: triton.InferenceServerClient) -> None:
    assert client.get_log_settings().settings["log_info"].bool_param
    changed = client.update_log_settings({"log_verbose_level": 1})
    assert changed.settings["log_verbose_level"].uint32_param == 1


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, algorithm: str) -> None:
    found = client.infer(MODEL, [infer_input(window())], compression_algorithm=algorithm)
    assert found.as_numpy("evidence").shape == (2, 2)


@pytest.mark.parametrize(
    ("model", "array", "status"),
    [
        ("absent", window(), "NOT_FOUND"),
        (MODEL, window()[:, :2], "INVALID_ARGUMENT"),
    ],
)
def test_errors_have_the_statuses_of_grpc(
    client: triton.InferenceServerClient, model: str, array: np.ndarray, status: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [infer_input(np.ascontiguousarray(array))])
    assert status in caught.value.status()


def test_what_this_agent_does_not_have_is_unimplemented(
    client: triton.InferenceServerClient,
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_cuda_shared_memory_status()
    assert "UNIMPLEMENTED" in caught.value.status()


async def test_the_client_for_asyncio_works_as_well(device: Device) -> None:
    import tritonclient.grpc.aio as aio

    async with aio.InferenceServerClient(f"unix:{device.socket}.grpc") as client:
        found = await client.infer(MODEL, [infer_input(window())])
        assert found.as_numpy("evidence").shape == (2, 2)
