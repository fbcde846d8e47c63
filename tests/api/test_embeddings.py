"""`/v1/embeddings`, asked by OpenAI's own client and by clients that are worse."""

import base64
from typing import Any

import numpy as np
import openai
import pytest

from agent.api.openai.embeddings import MAX_INPUTS
from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.tasks.embedding.encoder import TOKENIZER
from tests.api.test_openai import asked, refused
from tests.fakes.engine import FakeManifest, FakeModel, FakeModels, echo
from tests.support import tiny_encoder
from tests.support.served import ECHO, Serve
from tests.support.tiny_encoder import vector


def models() -> FakeModels:
    session = load_session("onnx", tiny_encoder.model(), EngineOptions())
    manifest = FakeManifest(session.inputs, session.outputs, "embedding", "onnx")
    encoder = FakeModel(session, "encoder", manifest=manifest)
    encoder.companions = {TOKENIZER: tiny_encoder.tokenizer()}
    return FakeModels(encoder, echo(ECHO))


def embed(given: Any, **changes: Any) -> Any:
    fields = {"model": "encoder", "input": given, **changes}
    return lambda client: client.embeddings.create(**fields)


@pytest.mark.parametrize("encoding", [{}, {"encoding_format": "float"}])
async def test_texts_become_vectors(serve: Serve, encoding: dict[str, Any]) -> None:
    # Without a format, OpenAI's client asks for base64 and decodes it itself.
    async with serve(models()) as served:
        answer = await asked(served, embed(["hello world", "pump"], **encoding))
        found = [item.embedding for item in answer.data]
        np.testing.assert_allclose(found, [vector("hello", "world"), vector("pump")], atol=1e-6)
        assert [item.index for item in answer.data] == [0, 1]
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (7, 7)
        assert answer.model == "encoder"


@pytest.mark.parametrize("given", ["pump leaks", [2, 6, 7, 3], [[2, 6, 7, 3]], ["pump leaks"]])
async def test_text_and_token_ids_say_the_same(serve: Serve, given: Any) -> None:
    async with serve(models()) as served:
        answer = await asked(served, embed(given, encoding_format="base64"))
        found = np.frombuffer(base64.b64decode(answer.data[0].embedding), "<f4")
        np.testing.assert_allclose(found, vector("pump", "leaks"), atol=1e-6)


@pytest.mark.parametrize(
    "given", ["", [], ["a", ""], ["a", 1], [[]], [[1], "a"], [99], [1.5], None, ["a"] * 2049]
)
async def test_what_is_no_text_is_refused(serve: Serve, given: Any) -> None:
    assert MAX_INPUTS == 2048
    async with serve(models()) as served:
        error = await refused(served, embed(given))
        assert (error.status_code, error.code) == (400, "request.payload")
        assert error.type == "invalid_request_error"


async def test_so_many_texts_are_read(serve: Serve) -> None:
    async with serve(models()) as served:
        answer = await asked(served, embed(["pump"] * MAX_INPUTS))
        assert len(answer.data) == MAX_INPUTS


async def test_dimensions_are_the_models(serve: Serve) -> None:
    async with serve(models()) as served:
        assert await asked(served, embed("pump", dimensions=4))
        error = await refused(served, embed("pump", dimensions=2))
        assert (error.status_code, error.param) == (400, "dimensions")


async def test_a_model_that_is_no_encoder_says_so(serve: Serve) -> None:
    async with serve(models()) as served:
        error: openai.APIStatusError = await refused(served, embed("pump", model="echo"))
        assert error.status_code == 400
        assert "no embeddings" in error.message
        error = await refused(served, embed("pump", model="none"))
        assert (error.status_code, error.code) == (404, "model_not_found")
