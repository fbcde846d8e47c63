"""`/api/classify`, asked by clients that are good and worse."""

import json
from typing import Any

import pytest

from agent.api.classify import MAX_REQUEST
from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.tasks.classification.classifier import MAX_TEXT, MAX_TEXTS
from agent.tasks.embedding.encoder import TOKENIZER
from tests.fakes.engine import FakeManifest, FakeModel, FakeModels, echo
from tests.support import tiny_classifier, tiny_encoder
from tests.support.served import ECHO, Serve, Served


def models() -> FakeModels:
    session = load_session("onnx", tiny_classifier.model(), EngineOptions())
    task = ("text-classification", "onnx", "", tiny_classifier.PARAMETERS)
    model = FakeModel(
        session, "tiny", manifest=FakeManifest(session.inputs, session.outputs, *task)
    )
    model.companions = {TOKENIZER: tiny_encoder.tokenizer()}
    return FakeModels(model, echo(ECHO))


async def ask(served: Served, given: Any, **changes: Any) -> Any:
    body = json.dumps({"model": "tiny", "input": given, **changes}).encode()
    return await served.call("POST", "/api/classify", body)


async def test_a_text_or_a_list_is_answered_in_its_order(serve: Serve) -> None:
    async with serve(models()) as served:
        one = (await ask(served, "pump leaks", top=2)).json()
        (only,) = one["results"]
        assert (only["label"], only["in_scope"], len(only["labels"])) == ("leak", True, 2)
        assert only["labels"][0] == {"label": "leak", "confidence": only["confidence"]}
        many = (await ask(served, ["hello world", "what is this", "pump leaks"])).json()["results"]
        assert [each["label"] for each in many] == ["greeting", None, "leak"]
        assert [each["in_scope"] for each in many] == [True, False, True]
        assert many[2]["confidence"] == only["confidence"]


@pytest.mark.parametrize(
    "given", ["", [], [""], ["a", 1], 5, None, ["a"] * (MAX_TEXTS + 1), "a" * (MAX_TEXT + 1)]
)
async def test_what_is_no_text_is_refused(serve: Serve, given: Any) -> None:
    async with serve(models()) as served:
        reply = await ask(served, given)
        assert (reply.status, reply.json()["code"]) == (400, "request.payload")


@pytest.mark.parametrize("changes", [{"top": 0}, {"top": 1001}, {"top": "all"}, {"tpo": 1}])
async def test_fields_that_are_wrong_or_unknown_are_refused(
    serve: Serve, changes: dict[str, Any]
) -> None:
    async with serve(models()) as served:
        assert (await ask(served, "gauge", **changes)).status == 400


async def test_texts_up_to_the_limits_are_answered(serve: Serve) -> None:
    async with serve(models()) as served:
        results = (await ask(served, ["gauge"] * MAX_TEXTS, top=1000)).json()["results"]
        assert len(results) == MAX_TEXTS
        assert (await ask(served, "a" * MAX_TEXT)).status == 200


async def test_a_body_over_the_bound_is_refused_before_it_is_read(serve: Serve) -> None:
    async with serve(models()) as served:
        reply = await served.call("POST", "/api/classify", b" " * (MAX_REQUEST + 1))
        assert (reply.status, reply.json()["code"]) == (413, "limit.size")


async def test_a_model_of_another_task_says_so(serve: Serve) -> None:
    async with serve(models()) as served:
        reply = await ask(served, "gauge", model="echo")
        assert reply.status == 400
        assert "its task is tensor" in reply.json()["message"]
        assert (await ask(served, "gauge", model="none")).status == 404


async def test_the_tensors_answer_plain_inference_too(serve: Serve) -> None:
    ids = {"datatype": "INT64", "shape": [1, 3], "data": [2, 8, 3]}
    mask = {**ids, "name": "attention_mask", "data": [1, 1, 1]}
    body = json.dumps({"inputs": [{**ids, "name": "input_ids"}, mask]}).encode()
    async with serve(models()) as served:
        reply = await served.call("POST", "/v2/models/tiny/infer", body)
        assert reply.json()["outputs"][0]["data"] == [0.0, 0.0, 4.0, 0.0]
