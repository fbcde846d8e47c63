"""The protocol's extensions about models, through a real socket."""

import json
from typing import Any

import pytest

from tests.api.test_routes import infer, tensor
from tests.fakes.engine import FakeModels, echo
from tests.fakes.pipelines import FakePipelines
from tests.support.served import ECHO, Serve, Served
from tests.support.wire import Reply

FIELDS = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}


async def post(api: Served, path: str, fields: Any = None) -> Reply:
    body = b"" if fields is None else json.dumps(fields).encode()
    return await api.call("POST", f"/v2/repository/{path}", body)


async def test_the_index_shows_what_is_installed_and_what_is_loaded(serve: Serve) -> None:
    async with serve(FakeModels(echo(ECHO), cold=[echo(ECHO, name="cold")])) as api:
        assert [m["name"] for m in (await post(api, "index")).json()] == ["echo", "cold"]
        assert (await post(api, "index", {"ready": True})).json() == [
            {"name": "echo", "version": "1.0.0", "state": "READY", "reason": ""}
        ]


async def test_models_are_loaded_and_unloaded(serve: Serve) -> None:
    async with serve(FakeModels(cold=[echo(ECHO)])) as api:
        assert (await post(api, "models/echo/load")).status == 200
        assert (await api.call("GET", "/v2/models/echo/ready")).status == 200
        unload = {"parameters": {"unload_dependents": False}}
        assert (await post(api, "models/echo/unload", unload)).status == 200
        assert (await api.call("GET", "/v2/models/echo/ready")).status == 503
        assert (await infer(api, FIELDS)).status == 200


@pytest.mark.parametrize("parameter", ["config", "file:1/model.onnx"])
async def test_a_model_that_comes_with_the_request_is_refused(serve: Serve, parameter: str) -> None:
    """It would go round the signature."""
    async with serve() as api:
        reply = await post(api, "models/echo/load", {"parameters": {parameter: "AAAA"}})
        assert (reply.status, reply.json()["where"]) == (400, f"parameters.{parameter}")


async def test_an_unknown_model_is_404(serve: Serve) -> None:
    async with serve() as api:
        for path in ("models/nobody/load", "models/nobody/unload"):
            assert (await post(api, path)).status == 404
        assert (await api.call("GET", "/v2/models/nobody/stats")).status == 404
        assert (await api.call("GET", "/v2/models/nobody/config")).status == 404


async def test_a_model_that_a_stream_needs_stays(serve: Serve) -> None:
    pipelines = FakePipelines()
    models = FakeModels(echo(ECHO, name="watching"))
    async with serve(models, parts={"pipelines": pipelines}) as api:
        await api.call("POST", "/api/readings?stream=pump-1", b'{"flow": 1}')
        reply = await post(api, "models/watching/unload")
        assert reply.status == 400
        assert "pump-1" in reply.json()["message"]


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"parameters": 1}'])
async def test_what_is_no_object_is_400(serve: Serve, body: bytes) -> None:
    async with serve() as api:
        reply = await api.call("POST", "/v2/repository/models/echo/load", body)
        assert (reply.status, reply.json()["code"]) == (400, "request.payload")


async def test_statistics_count_successes_and_failures(serve: Serve) -> None:
    async with serve(FakeModels(echo(ECHO), echo(ECHO, name="other"))) as api:
        await infer(api, FIELDS)
        await infer(api, FIELDS)
        await infer(api, {"inputs": []})
        (stats,) = (await api.call("GET", "/v2/models/echo/stats")).json()["model_stats"]
        assert (stats["name"], stats["version"], stats["inference_count"]) == ("echo", "1.0.0", 2)
        assert stats["inference_stats"]["success"]["count"] == 2
        assert 0 < stats["inference_stats"]["success"]["ns"] < 10**9
        assert stats["inference_stats"]["fail"]["count"] == 1
        assert len((await api.call("GET", "/v2/models/stats")).json()["model_stats"]) == 2


async def test_the_configuration_names_types_and_shapes(serve: Serve) -> None:
    async with serve() as api:
        config = (await api.call("GET", "/v2/models/echo/config")).json()
        assert config["input"] == [{"name": "x", "data_type": "TYPE_INT8", "dims": [-1, 4]}]
        assert config["max_batch_size"] == 0
