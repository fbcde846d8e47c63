"""Texts to labels over a real session and a real tokenizer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from agent.errors import BadModel, BadPayload, EngineFailed
from agent.tasks.classification.classifier import MAX_TEXT, MAX_TEXTS, Classifier
from agent.tasks.classification.labels import Labelling, decided, labelling, probabilities
from agent.tasks.embedding.encoder import TOKENIZER
from agent.types import TensorSpec
from tests.support import tiny_classifier, tiny_encoder
from tests.support.tiny_classifier import LABELS, PARAMETERS

SESSION: Session = load_session("onnx", tiny_classifier.model(), EngineOptions())
FILES = {TOKENIZER: tiny_encoder.tokenizer()}


@dataclass
class Manifest:
    parameters: Mapping[str, Any] = field(default_factory=lambda: PARAMETERS)
    inputs: tuple[TensorSpec, ...] = SESSION.inputs
    outputs: tuple[TensorSpec, ...] = SESSION.outputs


def classifier(**changes: Any) -> Classifier:
    return Classifier(Manifest({**PARAMETERS, **changes}), FILES)


def test_each_text_gets_its_label_and_a_calibrated_confidence() -> None:
    found = classifier().classify(SESSION.run, ["hello world", "pump leaks leaks pump", "gauge"], 4)
    assert [each.label for each in found] == ["greeting", "leak", "reading"]
    # By hand: [CLS] gauge [SEP] is 12 / 3 for "reading", over the temperature 2.
    assert found[2].confidence == pytest.approx(np.exp(2) / (np.exp(2) + 3))
    assert sum(share for _, share in found[2].ranked) == pytest.approx(1)
    assert all(each.in_scope for each in found)


@pytest.mark.parametrize("text", ["something else entirely", "hello something else entirely", "🙂"])
def test_what_is_about_nothing_known_is_out_of_scope(text: str) -> None:
    (found,) = classifier().classify(SESSION.run, [text])
    assert found.label is None
    assert not found.in_scope
    assert found.confidence < 0.5


def test_below_the_threshold_no_label_is_claimed() -> None:
    (sure,) = classifier(threshold=0.71).classify(SESSION.run, ["gauge"])
    (unsure,) = classifier(threshold=0.72).classify(SESSION.run, ["gauge"])
    assert (sure.label, unsure.label) == ("reading", None)
    assert unsure.confidence == sure.confidence


def test_more_labels_than_there_are_is_all_of_them() -> None:
    (found,) = classifier().classify(SESSION.run, ["gauge"], 1000)
    assert {label for label, _ in found.ranked} == set(LABELS)
    assert len(classifier().classify(SESSION.run, ["gauge"], 2)[0].ranked) == 2


def test_texts_are_read_up_to_the_limits() -> None:
    assert len(classifier().classify(SESSION.run, ["gauge"] * MAX_TEXTS)) == MAX_TEXTS
    assert classifier().classify(SESSION.run, ["a" * MAX_TEXT])
    for texts in ([], ["gauge"] * (MAX_TEXTS + 1), ["gauge", "a" * (MAX_TEXT + 1)], [""]):
        with pytest.raises(BadPayload, match=r"input|texts"):
            classifier().classify(SESSION.run, texts)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": []},
        {"labels": ["one"]},
        {"labels": ["a", "b", "c", "c"]},
        {"labels": ["a", "b", "c"]},
        {"labels": ["a", "b", "c", ""]},
        {"labels": "abcd"},
        {"out_of_scope": "elsewhere"},
        {"threshold": 1.5},
        {"temperature": 0.0},
        {"temperature": "warm"},
        {"max_tokens": 1},
    ],
)
def test_a_manifest_that_cannot_be_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BadModel, match=r"model\.toml: parameters"):
        classifier(**changes)


def test_a_package_without_tokenizer_or_logits_is_refused() -> None:
    with pytest.raises(BadModel, match="tokenizer"):
        Classifier(Manifest(), {})
    with pytest.raises(BadModel, match="logits"):
        Classifier(Manifest(outputs=(TensorSpec("x", "FP32", (-1, -1, 4)),)), FILES)


def test_logits_that_are_no_numbers_are_no_answer() -> None:
    with pytest.raises(EngineFailed, match="no numbers"):
        classifier().classify(lambda _: {"logits": np.full((1, 4), np.nan, np.float32)}, ["gauge"])


LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4)


@given(LOGITS, st.floats(0.01, 100))
def test_confidences_are_shares_in_the_order_of_the_logits(
    logits: list[float], temperature: float
) -> None:
    (shares,) = probabilities(np.array([logits], np.float32), temperature)
    assert shares.sum() == pytest.approx(1)
    assert (shares >= 0).all()
    assert shares[int(np.argmax(logits))] == shares.max()


@given(LOGITS, st.floats(0, 1))
def test_no_label_is_claimed_below_the_threshold_or_behind_out_of_scope(
    logits: list[float], threshold: float
) -> None:
    said: Labelling = labelling({**PARAMETERS, "threshold": threshold})
    (shares,) = probabilities(np.array([logits], np.float32), 1.0)
    found = decided(shares, said, 4)
    assert found.label != "other"
    if found.in_scope:
        assert found.confidence >= max(threshold, shares[LABELS.index("other")])
