"""What a request says of its urgency is obeyed, and requests that come together share a run."""

import asyncio
from typing import Any

import pytest

from tests.api.test_routes import infer, tensor
from tests.fakes.engine import FakeModel, FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve
from tests.support.wire import until


def asked(value: int = 1, **parameters: Any) -> dict[str, Any]:
    values = {"inputs": [tensor("INT8", [1, 4], data=[value] * 4)]}
    return {**values, "parameters": parameters} if parameters else values


def slow(**changes: Any) -> tuple[FakeModel, FakeSession]:
    """A model that runs until its gate is opened."""
    model = echo(ECHO, typical_s=1.0, **changes)
    assert isinstance(model.session, FakeSession)
    model.session.gate.clear()
    return model, model.session


async def test_a_request_names_its_own_deadline(serve: Serve) -> None:
    model, session = slow()
    async with serve(FakeModels(model)) as api:
        reply = await infer(api, asked(timeout=50_000))
        assert (reply.status, reply.json()["code"]) == (504, "limit.time")
        assert "0.05 s" in reply.json()["message"]
        session.gate.set()
        await until(lambda: api.service.admission.running == 0)
        assert (await infer(api, asked(timeout=5_000_000, priority=1))).status == 200


@pytest.mark.parametrize("parameters", [{"timeout": -1}, {"priority": "high"}, {"timeout": 1.5}])
async def test_an_urgency_that_makes_no_sense_is_refused(
    serve: Serve, parameters: dict[str, Any]
) -> None:
    async with serve() as api:
        reply = await infer(api, asked(**parameters))
        assert (reply.status, reply.json()["code"]) == (400, "request.payload")


async def test_what_comes_while_the_model_runs_shares_its_next_run(serve: Serve) -> None:
    model, session = slow(batch_gain=4.0)
    async with serve(FakeModels(model)) as api:
        first = asyncio.ensure_future(infer(api, asked(1)))
        await until(lambda: session.runs == 1)
        others = [asyncio.ensure_future(infer(api, asked(value))) for value in range(2, 8)]
        await until(lambda: api.service.admission.running == 7)
        session.gate.set()
        replies = await asyncio.gather(first, *others)
        text = (await api.call("GET", "/metrics")).body.decode()
        statistics = (await api.call("GET", "/v2/models/echo/stats")).json()["model_stats"][0]
    assert session.runs == 2
    assert (statistics["inference_count"], statistics["execution_count"]) == (7, 2)
    assert [reply.json()["outputs"][0]["data"] for reply in replies] == [
        [value] * 4 for value in range(1, 8)
    ]
    assert 'edge_agent_batches_total{model="echo",version="1.0.0"} 2\n' in text
    assert 'edge_agent_batched_requests_total{model="echo",version="1.0.0"} 7\n' in text
