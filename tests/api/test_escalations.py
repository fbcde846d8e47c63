"""Questions over the socket: asked, waited for, answered; doubtful answers of models among them."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.api.callers import Role
from agent.api.doubt import read_opinion
from agent.api.http.messages import MAX_WAIT_S, Request, Route
from agent.clock import SystemClock
from agent.store.db import Database
from agent.sync.policy import EscalationPolicy, Policies
from tests.fakes.engine import FakeModels, echo
from tests.support.served import FLOATS, Served, serving
from tests.support.wire import until
from tests.sync.test_escalation import Desk

PATH = "/api/escalations"


@asynccontextmanager
async def asking(
    directory: Path, *policies: EscalationPolicy, models: FakeModels | None = None, **settings: Any
) -> AsyncIterator[tuple[Served, Desk]]:
    database = Database.open(directory / "agent.db", clock=SystemClock())
    desk = Desk(database)
    desk.escalations.policies = Policies(policies)
    await desk.outbox.start()
    parts = {"escalations": desk.escalations}
    try:
        async with serving(directory, models, parts=parts, **settings) as api:
            yield api, desk
    finally:
        await desk.escalations.close()
        await database.close()


async def test_a_question_is_created_found_again_and_looked_at(tmp_path: Path) -> None:
    async with asking(tmp_path) as (api, _):
        body = json.dumps({"id": "q-1", "context": {"question": "?"}}).encode()
        first = await api.call("POST", PATH, body)
        assert (first.status, first.headers["location"]) == (201, "/api/escalations/q-1")
        assert (await api.call("POST", PATH, body)).status == 200
        looked = (await api.call("GET", f"{PATH}/q-1")).json()
        assert (looked["state"], looked["sent"]["context"]) == ("open", {"question": "?"})
        listed = (await api.call("GET", f"{PATH}?state=open")).json()
        assert [case["id"] for case in listed["escalations"]] == ["q-1"]


async def test_who_prefers_to_wait_gets_the_answer(tmp_path: Path) -> None:
    """Also when that takes longer than a request may take otherwise."""
    async with asking(tmp_path, request_deadline_s=0.2) as (api, desk):
        pending = asyncio.create_task(api.call("POST", PATH, b'{"id": "q-1"}', Prefer="wait=30"))
        await until(lambda: desk.escalations.waiting == 1)
        await asyncio.sleep(0.4)
        desk.answer()
        reply = await pending
        assert (reply.status, reply.headers["preference-applied"]) == (200, "wait=30")
        assert (reply.json()["answer"], reply.json()["by"]) == (9, "ann")


async def test_who_waits_in_vain_is_told_where_to_look(tmp_path: Path) -> None:
    async with asking(tmp_path) as (api, _):
        reply = await api.call("POST", PATH, b"{}", Prefer="respond-async, wait=1")
        assert reply.status == 202
        assert (await api.call("GET", reply.headers["location"])).json()["state"] == "open"


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        (b"[]", 400, "body"),
        (b'{"policy": "none"}', 404, "none"),
        (b'{"id": "a b"}', 400, "id"),
        (b'{"context": {"question": "%b"}}' % (b"x" * 70_000), 413, "context"),
    ],
)
async def test_a_wrong_question_is_refused_and_nothing_is_stored(
    tmp_path: Path, body: bytes, status: int, where: str
) -> None:
    async with asking(tmp_path) as (api, desk):
        reply = await api.call("POST", PATH, body)
        assert (reply.status, reply.json()["where"]) == (status, where)
        assert (await desk.outbox.counts()).total.enqueued == 0


@pytest.mark.parametrize("path", [f"{PATH}/nothing", f"{PATH}?state=lost", f"{PATH}?limit=-1"])
async def test_a_wrong_look_is_refused(tmp_path: Path, path: str) -> None:
    async with asking(tmp_path) as (api, _):
        assert (await api.call("GET", path)).status in {400, 404}


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(b"wait=30", 30), (b'respond-async; x=1 , Wait = "5"', 5), (b"wait=999999", MAX_WAIT_S),
     (b"wait=-1", 0), (b"wait=1.5", 0), (b"await=3", 0), (b"wait", 0), (b"", 0), (b"\xff", 0)],
)  # fmt: skip
def test_the_preference_to_wait_is_read_as_the_standard_says(header: bytes, seconds: int) -> None:
    route = Route("POST", PATH, lambda _: None, Role.APP, waits=True)  # type: ignore[arg-type,return-value]
    request = Request(route, "POST", {}, {}, {b"prefer": header}, b"", None)  # type: ignore[arg-type]
    assert request.wait_s == seconds
    request.route = replace(route, waits=False)
    assert request.wait_s == 0


# Doubtful answers

DOORS = EscalationPolicy("doors", models=("echo",), below=0.6)


async def infer(api: Served, values: list[float], **headers: str) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 4], "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()
    reply = await api.call("POST", "/v2/models/echo/infer", body, **headers)
    assert reply.status == 200
    return reply.json()  # type: ignore[no-any-return]


async def test_an_unsure_answer_becomes_an_escalation_and_a_sure_one_does_not(
    tmp_path: Path,
) -> None:
    async with asking(tmp_path, DOORS, models=FakeModels(echo(FLOATS))) as (api, desk):
        assert "parameters" not in await infer(api, [0.9, 0.1, 0.0, 0.0])
        answer = await infer(api, [0.3, 0.4, 0.2, 0.1])
        assert answer["parameters"]["confidence"] == pytest.approx(0.4)
        case = await desk.escalations.get(answer["parameters"]["escalation"])
        sent = json.loads(case.body)
        assert (sent["reason"], sent["model"]) == ("low-confidence", "echo 1.0.0")
        assert sent["context"] == {"output": 1}
        assert "input" not in sent


async def test_the_caller_waits_for_a_person_when_the_model_is_unsure(tmp_path: Path) -> None:
    async with asking(tmp_path, DOORS, models=FakeModels(echo(FLOATS))) as (api, desk):
        pending = asyncio.create_task(infer(api, [0.0] * 4, Prefer="wait=30"))
        await until(lambda: desk.escalations.waiting == 1)
        (case,) = await desk.escalations.newest(5)
        desk.answer(case.id, b'{"answer": "open", "by": "desk"}')
        parameters = (await pending)["parameters"]
        assert parameters["escalation_answer"] == '"open"'
        assert parameters["escalation_by"] == "desk"


async def test_a_caller_may_prefer_an_escalation_where_no_policy_names_the_model(
    tmp_path: Path,
) -> None:
    policy = EscalationPolicy("kiosk", below=0.6)
    async with asking(tmp_path, policy, models=FakeModels(echo(FLOATS))) as (api, _):
        assert "parameters" not in await infer(api, [0.0] * 4)
        assert "escalation" in (await infer(api, [0.0] * 4, Prefer="escalate=kiosk"))["parameters"]


async def test_an_escalation_that_cannot_be_made_costs_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.store.cases.MAX_CASES", 0)
    async with asking(tmp_path, DOORS, models=FakeModels(echo(FLOATS))) as (api, _):
        assert (await infer(api, [0.0] * 4))["outputs"]


def test_confidence_is_read_from_json_and_from_binary_answers() -> None:
    values = np.array([[0.1, 0.9], [0.4, 0.6]], np.float32)
    output = {"name": "p", "datatype": "FP32", "shape": [2, 2]}
    text = {"outputs": [{**output, "data": values.ravel().tolist()}]}
    binary = {"outputs": [
        {"name": "other", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}},
        {**output, "parameters": {"binary_data_size": 16}},
    ]}  # fmt: skip
    for fields, data in ((text, []), (binary, [b"abc", values.tobytes()])):
        opinion = read_opinion(fields, data, "")
        assert opinion is not None
        assert opinion.confidence == pytest.approx(0.6)
        assert opinion.best == 1


@pytest.mark.parametrize(
    "output",
    [{"shape": [2], "parameters": {"shared_memory_region": "r"}}, {"shape": [2], "data": [float("nan"), 1.0]},
     {"shape": [0], "data": []}],
)  # fmt: skip
def test_an_answer_without_an_opinion_has_none(output: dict[str, Any]) -> None:
    fields = {"outputs": [{"name": "p", "datatype": "FP32", **output}]}
    assert read_opinion(fields, [], "") is None


def test_logits_are_taken_as_such() -> None:
    fields = {"outputs": [{"name": "p", "datatype": "FP32", "shape": [1, 2], "data": [-3.0, 3.0]}]}
    opinion = read_opinion(fields, [], "p")
    assert opinion is not None
    assert opinion.confidence == pytest.approx(0.9975, abs=1e-4)
