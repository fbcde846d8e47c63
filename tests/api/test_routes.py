"""What the paths answer, through a real socket."""

import asyncio
import json
import re
from typing import Any

import numpy as np
import pytest

from agent.api.page import PAGE
from agent.errors import TooMany
from agent.types import Event, Quantization, TensorSpec
from tests.fakes.engine import FakeModels, FakeSession, echo
from tests.fakes.pipelines import FakeLink, FakeOutbox, FakePipelines
from tests.support.served import ECHO, FLOATS, Serve, Served
from tests.support.wire import Reply, Wire, request, until

INFER = "/v2/models/echo/infer"


def tensor(dtype: str, shape: list[int], **more: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": dtype, "shape": shape, **more}


async def infer(api: Served, fields: dict[str, Any], data: bytes = b"", path: str = INFER) -> Reply:
    text = json.dumps(fields).encode()
    headers = {"Inference_Header_Content_Length": str(len(text))} if data else {}
    return await api.call("POST", path, text + data, **headers)


async def test_a_whole_json_body_ends_its_line(serve: Serve) -> None:
    """So that a terminal's next prompt begins its own; the bytes of tensors are left alone."""
    async with serve() as api:
        for path in (
            "/healthz",
            "/readyz",
            "/api/status",
            "/v2",
            "/v2/models/nobody",
            "/v1/nothing",
        ):
            assert (await api.call("GET", path)).body.endswith(b"}\n"), path
        listed = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
        assert (await infer(api, listed)).body.endswith(b"}\n")
        binary = {**listed, "parameters": {"binary_data_output": True}}
        reply = await infer(api, binary)
        assert reply.body[int(reply.headers["inference-header-content-length"]) - 1 :][:1] == b"}"
        assert len(reply.body) == int(reply.headers["inference-header-content-length"]) + 4


# Open Inference Protocol


async def test_server_metadata_and_health(serve: Serve) -> None:
    async with serve() as api:
        assert "binary_tensor_data" in (await api.call("GET", "/v2")).json()["extensions"]
        assert (await api.call("GET", "/v2/health/live")).json() == {"live": True}
        assert (await api.call("GET", "/v2/health/ready")).status == 200


async def test_an_agent_that_is_not_ready_says_why(serve: Serve) -> None:
    pipelines = FakePipelines()
    async with serve(parts={"pipelines": pipelines}) as api:
        api.service.starting = "loading models"
        pipelines.problems["pump"] = "no such model"
        for path in ("/readyz", "/v2/health/ready"):
            reply = await api.call("GET", path)
            assert (reply.status, reply.headers["retry-after"]) == (503, "1")
            assert reply.json()["reasons"] == ["loading models", "pipeline pump: no such model"]
        assert (await api.call("GET", "/healthz")).status == 200


async def test_model_metadata_and_readiness(serve: Serve) -> None:
    async with serve() as api:
        reply = (await api.call("GET", "/v2/models/echo/versions/1.0.0")).json()
        assert reply["inputs"] == [
            {"name": "x", "datatype": "INT8", "shape": [-1, 4],
             "quantization": {"scale": 0.5, "zero_point": 1}}
        ]  # fmt: skip
        assert (reply["name"], reply["versions"], reply["platform"]) == ("echo", ["1.0.0"], "onnx")
        assert (await api.call("GET", "/v2/models/echo/ready")).status == 200


async def test_an_unknown_model_or_version_is_404(serve: Serve) -> None:
    async with serve() as api:
        for path in ("/v2/models/nobody", "/v2/models/echo/versions/9.9.9"):
            assert (await api.call("GET", path)).status == 404
            assert (await infer(api, {"inputs": []}, path=f"{path}/infer")).status == 404
            assert (await api.call("GET", f"{path}/ready")).status == 404


async def test_binary_in_and_out(serve: Serve) -> None:
    fields = {
        "inputs": [tensor("INT8", [1, 4], parameters={"binary_data_size": 4})],
        "parameters": {"binary_data_output": True},
    }
    async with serve() as api:
        for _ in range(3):
            reply = await infer(api, fields, b"\x01\x02\x03\x04")
            size = int(reply.headers["inference-header-content-length"])
            assert reply.headers["content-type"] == "application/octet-stream"
            assert json.loads(reply.body[:size]) == {
                "model_name": "echo", "model_version": "1.0.0",
                "outputs": [tensor("INT8", [1, 4], parameters={"binary_data_size": 4})],
            }  # fmt: skip
            assert reply.body[size:] == b"\x01\x02\x03\x04"


async def test_a_header_length_of_0_is_a_raw_tensor(serve: Serve) -> None:
    async with serve() as api:
        reply = await api.call(
            "POST", INFER, b"\x01\x02\x03\x04", Inference_Header_Content_Length="0"
        )
        assert reply.body.endswith(b"\x01\x02\x03\x04")


async def test_real_numbers_for_a_quantized_model_and_back(serve: Serve) -> None:
    """The client sees the sensor's unit, the model its integers: (real / 0.5) + 1."""
    fields = {
        "inputs": [tensor("FP32", [1, 4], data=[0.0, 1.0, -1.0, 100.0])],
        "outputs": [{"name": "x", "parameters": {"dequantize": True}}],
    }
    async with serve() as api:
        assert (await infer(api, fields)).json()["outputs"] == [
            tensor("FP32", [1, 4], data=[0.0, 1.0, -1.0, 63.0])
        ]


async def test_bad_tensors_are_400_with_name_and_code(serve: Serve) -> None:
    async with serve(FakeModels(echo(FLOATS))) as api:
        bad = {
            "NaN": ([1, 4], np.array([[np.nan] * 4], np.float32).tobytes()),
            "too few bytes": ([1, 4], b"12"),
            "an overflowing shape": ([2**40, 2**40], b"1234"),
            "another shape": ([1, 5], bytes(20)),
        }
        for shape, data in bad.values():
            fields = {"inputs": [tensor("FP32", shape, parameters={"binary_data_size": len(data)})]}
            reply = await infer(api, fields, data)
            assert reply.status == 400
            assert (reply.json()["code"], reply.json()["where"]) == ("request.tensor", "x")
            assert reply.json()["error"].startswith("x: ")


async def test_a_model_that_takes_long_runs_beside_the_loop(serve: Serve) -> None:
    """While it runs, others are answered."""
    slow = echo(ECHO, typical_s=1.0)
    assert isinstance(slow.session, FakeSession)
    slow.session.gate.clear()
    fields = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
    async with serve(FakeModels(slow)) as api:
        pending = asyncio.ensure_future(infer(api, fields))
        await until(lambda: slow.session.runs == 1)
        assert (await api.call("GET", "/healthz")).status == 200
        slow.session.gate.set()
        assert (await pending).status == 200


async def test_a_model_that_takes_too_long_is_504_and_keeps_its_place(serve: Serve) -> None:
    """The run cannot be stopped, so it goes on counting as one until it ends."""
    hanging = echo(ECHO, typical_s=1.0)
    assert isinstance(hanging.session, FakeSession)
    hanging.session.gate.clear()
    fields = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
    async with serve(FakeModels(hanging), request_deadline_s=0.1, parts={"max_running": 1}) as api:
        first = await infer(api, fields)
        assert (first.status, first.json()["code"]) == (504, "limit.time")
        assert (await infer(api, fields)).status == 429
        hanging.session.gate.set()
        await until(lambda: api.service.admission.running == 0)
        assert (await infer(api, fields)).status == 200


async def test_a_model_is_loaded_by_its_first_request(serve: Serve) -> None:
    async with serve(FakeModels(cold=[echo(ECHO)])) as api:
        assert (await api.call("GET", "/v2/models/echo/ready")).status == 503
        fields = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
        assert (await infer(api, fields)).status == 200
        assert (await api.call("GET", "/v2/models/echo/ready")).status == 200


async def test_a_new_version_takes_over_between_two_requests(serve: Serve) -> None:
    """Remembered requests belong to the version that they were made for."""
    old = echo(ECHO)
    new = echo(TensorSpec("x", "INT8", (-1, 4), quantization=Quantization(2.0)), version="2.0.0")
    fields = {"inputs": [tensor("FP32", [1, 4], parameters={"binary_data_size": 16})]}
    data = np.array([2, 4, 6, 8], np.float32).tobytes()
    models = FakeModels(old)
    async with serve(models) as api:
        first = (await infer(api, fields, data)).json()
        models.replace(old, new)
        second = (await infer(api, fields, data)).json()
    assert (first["model_version"], first["outputs"][0]["data"]) == ("1.0.0", [5, 9, 13, 17])
    assert (second["model_version"], second["outputs"][0]["data"]) == ("2.0.0", [1, 2, 3, 4])


async def test_a_swap_under_way_costs_no_request(serve: Serve) -> None:
    """The old version is closed after it was chosen and before it ran: the new one answers."""
    old, new = echo(ECHO, typical_s=1.0), echo(ECHO, version="2.0.0", typical_s=1.0)
    models = FakeModels(old)
    fields = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
    async with serve(models) as api:
        old.session.close()
        models.replace(old, new)
        models.peek_first = old
        assert (await infer(api, fields)).json()["model_version"] == "2.0.0"


@pytest.mark.parametrize("typical_s", [0.0, 1.0], ids=["inline", "in a thread"])
async def test_a_hundred_swaps_under_load_fail_no_request(serve: Serve, typical_s: float) -> None:
    """Each old version is closed at once, whoever has just chosen it."""
    fields = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}
    body = json.dumps(fields).encode()
    model = echo(ECHO, version="0.0.0", typical_s=typical_s)
    models = FakeModels(model)
    statuses: list[int] = []
    over = asyncio.Event()

    async def ask(wire: Wire) -> None:
        while not over.is_set():
            statuses.append((await wire.call("POST", INFER, body)).status)

    async with serve(models) as api:
        askers = [asyncio.ensure_future(ask(await api.connect())) for _ in range(4)]
        for number in range(1, 101):
            new = echo(ECHO, version=f"0.0.{number}", typical_s=typical_s)
            models.replace(model, new)
            await asyncio.to_thread(model.session.close)
            model = new
            answered = len(statuses)
            await until(lambda answered=answered: len(statuses) > answered)
        over.set()
        await asyncio.gather(*askers)
    assert len(statuses) >= 100
    assert set(statuses) == {200}


async def test_every_inference_is_counted_by_model_and_outcome(serve: Serve) -> None:
    async with serve() as api:
        await infer(api, {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]})
        await infer(api, {"inputs": [tensor("INT8", [1, 4], data=[1])]})
        text = (await api.call("GET", "/metrics")).body.decode()
    assert 'edge_agent_inference_seconds_count{model="echo",version="1.0.0"} 1\n' in text
    assert (
        'edge_agent_inference_failures_total{model="echo",version="1.0.0",code="request.tensor"} 1\n'
        in text
    )
    assert 'edge_agent_api_requests_total{route="/v2/models/{model}/infer",status="400"} 1' in text


# Readings


async def test_readings_are_handed_over_in_every_format(serve: Serve) -> None:
    bodies = {
        "application/json": b'[{"time": 1, "flow": 2.5}, {"time": 2, "flow": 3}]',
        "application/x-ndjson; charset=utf-8": b'{"time": 1, "flow": 2.5}\n{"time": 2, "flow": 3}\n',
        "text/csv": b"time,flow\n1,2.5\n2,3\n",
    }
    for content_type, body in bodies.items():
        pipelines = FakePipelines()
        async with serve(parts={"pipelines": pipelines}) as api:
            reply = await api.call(
                "POST", "/api/readings?stream=pump-1", body, Content_Type=content_type
            )
            assert reply.json() == {
                "accepted": 1, "dropped": {"duplicate": 1}, "windows": 1, "warnings": 0,
            }  # fmt: skip
        rows = pipelines.submitted[0]
        assert (rows.stream, rows.sensors) == ("pump-1", ("flow",))
        assert rows.values.tolist() == [[2.5], [3.0]]


async def test_large_readings_are_decoded_beside_the_loop(serve: Serve) -> None:
    pipelines = FakePipelines()
    body = b"time,flow\n" + b"".join(b"%d,1.5\n" % n for n in range(10_000))
    async with serve(parts={"pipelines": pipelines}) as api:
        reply = await api.call("POST", "/api/readings?stream=p", body, Content_Type="text/csv")
        assert reply.json()["accepted"] == 9999


async def test_readings_that_are_not_understood_are_400(serve: Serve) -> None:
    async with serve(parts={"pipelines": FakePipelines()}) as api:
        for content_type in ("application/json", "text/csv", "image/png"):
            reply = await api.call(
                "POST", "/api/readings?stream=p", b"{", Content_Type=content_type
            )
            assert reply.status == 400


async def test_pipelines_that_are_behind_are_429(serve: Serve) -> None:
    pipelines = FakePipelines()
    pipelines.failure = TooMany("the queue is full", retry_after_s=2.4)
    async with serve(parts={"pipelines": pipelines}) as api:
        reply = await api.call("POST", "/api/readings?stream=p", b'{"flow": 1}')
        assert (reply.status, reply.headers["retry-after"]) == (429, "3")


async def test_a_device_without_pipelines_says_so(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("POST", "/api/readings", b'{"flow": 1}')).status == 503


# Looking


async def test_the_outbox_is_a_depth_and_totals(serve: Serve) -> None:
    async with serve(parts={"outbox": FakeOutbox()}) as api:
        text = (await api.call("GET", "/metrics")).body.decode()
    assert "# TYPE edge_agent_outbox_messages gauge\n" in text
    assert 'edge_agent_outbox_messages{class="telemetry"} 1\n' in text
    assert "# TYPE edge_agent_outbox_delivered_total counter\n" in text
    assert 'edge_agent_outbox_delivered_total{class="telemetry"} 2\n' in text


async def test_status_tells_everything_at_a_glance(serve: Serve) -> None:
    pipelines = FakePipelines()
    parts = {"pipelines": pipelines, "outbox": FakeOutbox(), "link": FakeLink()}
    async with serve(parts=parts) as api:
        await api.call("POST", "/api/readings?stream=pump-1", b'{"flow": 1}')
        await infer(api, {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]})
        status = (await api.call("GET", "/api/status")).json()
    assert (status["device"], status["ready"]) == ("test-device", True)
    assert status["streams"] == [{"stream": "pump-1", "rows": 1, "model": "watching 1.0.0"}]
    assert status["outbox"]["queued"] == 1
    assert status["outbox"]["classes"]["telemetry"]["delivered"] == 2
    assert status["link"] == {
        "connected": False,
        "state": "waiting",
        "protocol": "",
        "broker": "broker:1883",
        "reason": "broker:1883: no route",
    }
    assert status["models"][0]["requests"] == 1
    assert 0 < status["models"][0]["p50_ms"] < 100
    assert status["machine"]["memory_mib"] > 1


async def test_models_are_listed(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("GET", "/api/models")).json() == {
            "models": [{"name": "echo", "version": "1.0.0", "state": "READY", "reason": ""}]
        }


async def test_the_page_takes_nothing_from_elsewhere(serve: Serve) -> None:
    async with serve() as api:
        reply = await api.call("GET", "/")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in reply.headers["content-security-policy"]
    assert re.findall(rb"(?:src|href)=\"(?!/|data:,)", PAGE) == []
    assert len(PAGE) < 16_384


# Events


class Listener:
    """Reads a chunked stream of server-sent events."""

    def __init__(self, wire: Any) -> None:
        self.wire = wire

    @classmethod
    async def open(cls, api: Served, **headers: str) -> "Listener":
        wire = await api.connect()
        await wire.send(request("GET", "/api/events", **headers))
        head = await wire.reply(with_body=False)
        assert head.headers["content-type"] == "text/event-stream"
        listener = cls(wire)
        assert (await listener.chunk()).startswith(b":")
        return listener

    async def chunk(self) -> bytes:
        async with asyncio.timeout(5):
            size = int(await self.wire.reader.readline(), 16)
            return bytes((await self.wire.reader.readexactly(size + 2))[:-2])

    async def event(self) -> tuple[int, dict[str, Any]]:
        lines = dict(
            line.split(": ", 1) for line in (await self.chunk()).decode().split("\n") if line
        )
        data = json.loads(lines["data"])
        assert data["type"] == lines["event"]
        return int(lines["id"]), data


async def test_events_arrive_with_ids_and_go_on_after_the_last_one(serve: Serve) -> None:
    async with serve() as api:
        listener = await Listener.open(api)
        for number in range(3):
            api.events.publish(Event("test.happened", 1.5, {"number": number}))
        assert [await listener.event() for _ in range(2)] == [
            (n + 1, {"type": "test.happened", "time": 1.5, "data": {"number": n}}) for n in range(2)
        ]
        again = await Listener.open(api, Last_Event_ID="2")
        assert (await again.event())[0] == 3


async def test_a_quiet_stream_shows_signs_of_life(serve: Serve) -> None:
    async with serve(heartbeat_s=0.05) as api:
        assert await (await Listener.open(api)).chunk() == b": still here\n\n"


async def test_a_listener_that_goes_is_forgotten(serve: Serve) -> None:
    async with serve() as api:
        listener = await Listener.open(api)
        assert api.events.listeners == 1
        listener.wire.close()
        await until(lambda: api.events.listeners == 0)


async def test_a_listener_that_does_not_read_is_told_what_it_lost(serve: Serve) -> None:
    """Memory is bounded by the listener's queue and the socket's buffers."""
    async with serve() as api:
        listener = await Listener.open(api)
        listener.wire.writer.transport.pause_reading()
        for number in range(3000):
            api.events.publish(Event("test.happened", 0, {"number": number, "text": "x" * 500}))
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        listener.wire.writer.transport.resume_reading()
        seen, lost = 0, 0
        while seen + lost < 3000:
            _, event = await listener.event()
            if event["type"] == "events.lost":
                lost += event["data"]["count"]
            else:
                seen += 1
        assert lost > 0
        assert seen + lost == 3000


async def test_event_streams_are_bounded(serve: Serve) -> None:
    async with serve(max_event_streams=2) as api:
        for _ in range(2):
            await Listener.open(api)
        assert (await api.call("GET", "/api/events")).status == 429


async def test_a_last_id_that_is_no_number_is_400(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("GET", "/api/events", Last_Event_ID="x")).status == 400


async def test_a_head_of_events_ends_at_once(serve: Serve) -> None:
    async with serve() as api:
        assert (await api.call("HEAD", "/api/events")).status == 200
        assert api.events.listeners == 0
