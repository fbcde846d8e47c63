"""Texts to vectors over a real session and a real tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.errors import AgentError, BadModel, BadPayload
from agent.tasks.embedding.encoder import BATCH_TOKENS, TOKENIZER, Encoder, batches
from agent.tasks.embedding.tokens import MAX_TEXT
from agent.types import TensorSpec
from tests.support import tiny_encoder
from tests.support.tiny_encoder import TABLE, WIDTH, vector

SESSION: Session = load_session("onnx", tiny_encoder.model(), EngineOptions())


@dataclass
class Manifest:
    parameters: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[TensorSpec, ...] = SESSION.inputs
    outputs: tuple[TensorSpec, ...] = SESSION.outputs


FILES = {TOKENIZER: tiny_encoder.tokenizer()}


def encoder(**parameters: Any) -> Encoder:
    return Encoder(Manifest(parameters), FILES)


def test_the_mean_leaves_padding_out() -> None:
    made = encoder().embed(SESSION.run, ["hello world pump leaks", "gauge", "Hello world"])
    wanted = [vector("hello", "world", "pump", "leaks"), vector("gauge"), vector("hello", "world")]
    np.testing.assert_allclose(made.vectors, wanted, atol=1e-6)
    assert made.tokens == 6 + 3 + 4


def test_cls_is_the_first_token_as_it_is() -> None:
    made = encoder(pooling="cls", normalize=False).embed(SESSION.run, ["pump"])
    np.testing.assert_allclose(made.vectors[0], TABLE[2], atol=1e-6)


def test_what_is_longer_than_the_window_is_cut() -> None:
    made = encoder(max_tokens=4).embed(SESSION.run, ["pump leaks gauge gauge", [2, 6, 7, 3, 8]])
    np.testing.assert_allclose(made.vectors, [vector("pump", "leaks")] * 2, atol=1e-6)
    assert made.tokens == 8


def test_ids_and_text_are_one() -> None:
    made = encoder().embed(SESSION.run, [[2, 4, 3], "hello"])
    np.testing.assert_array_equal(made.vectors[0], made.vectors[1])


@pytest.mark.parametrize("ids", [[9], [-1], [2, 2**40]])
def test_an_unknown_token_id_is_refused(ids: list[int]) -> None:
    with pytest.raises(BadPayload, match="from 0 to 8"):
        encoder().embed(SESSION.run, ["hello", ids])


def test_a_text_is_read_up_to_the_limit() -> None:
    assert encoder().embed(SESSION.run, ["a" * MAX_TEXT]).vectors.shape == (1, WIDTH)
    with pytest.raises(BadPayload, match=r"input\[1\]"):
        encoder().embed(SESSION.run, ["hello", "a" * (MAX_TEXT + 1)])


@pytest.mark.parametrize(
    ("parameters", "files"),
    [
        ({"pooling": "sum"}, FILES),
        ({"pooling": "none"}, FILES),
        ({"max_tokens": 1}, FILES),
        ({"max_tokens": "many"}, FILES),
        ({}, {}),
        ({}, {TOKENIZER: b"{}"}),
        ({}, {TOKENIZER: b"\xff\xfe"}),
    ],
)
def test_a_package_that_is_no_encoder_is_refused(
    parameters: dict[str, Any], files: dict[str, bytes]
) -> None:
    with pytest.raises(BadModel):
        Encoder(Manifest(parameters), files)


def test_an_input_that_no_encoder_has_is_refused() -> None:
    with pytest.raises(BadModel, match="pixels"):
        Encoder(Manifest(inputs=(TensorSpec("pixels", "INT64", (-1, -1)),)), FILES)


@given(st.text(max_size=200))
def test_any_text_has_a_direction_or_an_error_of_ours(text: str) -> None:
    try:
        made = encoder().embed(SESSION.run, [text])
    except AgentError:
        return
    assert np.isclose(np.linalg.norm(made.vectors[0]), 1, atol=1e-5)


@given(st.lists(st.integers(1, BATCH_TOKENS), max_size=60))
def test_batches_hold_each_text_once_and_stay_small(lengths: list[int]) -> None:
    found = list(batches(lengths))
    assert sorted(n for batch in found for n in batch) == list(range(len(lengths)))
    assert all(max(lengths[n] for n in batch) * len(batch) <= BATCH_TOKENS for batch in found)
