"""What a classifier of texts is judged by."""

import numpy as np
import pytest

from tests.support import tiny_classifier, tiny_encoder
from tools.quantize.encoder.classifier import ClassifierFamily, Question, calibration_error
from tools.quantize.family import Artifact
from tools.quantize.onnx.family import OnnxFamily, OnnxSource
from tools.quantize.tensors.samples import Samples


def test_confidence_that_comes_true_has_no_calibration_error() -> None:
    honest = np.array([True, True, True, False])
    assert calibration_error(np.full(4, 0.75), honest) == pytest.approx(0)
    # By hand: half of the answers claim 0.1 too much, half 0.2 too little.
    shares = np.array([0.85] * 4 + [0.55] * 4)
    right = np.array([True, True, True, False] * 2)
    assert calibration_error(shares, right) == pytest.approx(0.15)


def test_decisions_count_by_slice_and_false_rejections_are_told(tmp_path) -> None:
    (tmp_path / "model.onnx").write_bytes(tiny_classifier.model())
    asked = [
        Question("hello world", "greeting", ("known",)),
        Question("what is this", "greeting", ("known",)),
        Question("who are you", "other", ("strange",)),
        Question("gauge", "other", ("strange",)),
    ]
    ids = {name: np.ones((8, 3), np.int64) for name in ("input_ids", "attention_mask")}
    graph = OnnxFamily(OnnxSource(tmp_path / "model.onnx", Samples(ids), Samples(ids)))
    settings = dict(tiny_classifier.PARAMETERS)
    family = ClassifierFamily(graph, tiny_encoder.tokenizer(), settings, asked)
    artifact = Artifact(tmp_path, {"model.onnx": "model"}, "onnx")
    scores = family.evaluate(artifact, artifact, lambda _, __: None)
    found = {(score.metric, score.slice): score.value for score in scores}
    assert found["accuracy", "all"] == 0.5
    assert found["accuracy", "known"] == found["accuracy", "strange"] == 0.5
    assert found["in scope but rejected", "known"] == 0.5
