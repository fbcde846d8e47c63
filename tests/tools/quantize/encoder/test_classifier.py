"""What a classifier of texts is judged by."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent.errors import BadModel, BadPayload, BadRequest
from agent.trust.manifest import parse_manifest
from tests.support import tiny_classifier, tiny_encoder
from tests.tools.quantize.conftest import Run
from tools.quantize.encoder.classifier import ClassifierFamily, Question, calibration_error
from tools.quantize.encoder.questions import labels_of, read
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


def test_decisions_count_by_slice_and_false_rejections_are_told(tmp_path: Path) -> None:
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


CONFIG = {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}}


def test_labels_stand_in_the_order_of_the_logits() -> None:
    assert labels_of(CONFIG) == ["a", "b"]
    assert labels_of({"architectures": ["BertModel"]}) == []
    for wrong in ({}, {"0": "a"}, {"0": "a", "2": "b"}):
        with pytest.raises(BadModel, match="id2label"):
            labels_of({**CONFIG, "id2label": wrong})


@pytest.mark.parametrize("text", ["", "c\tx", "a x", "a\t", "\xff"])
def test_a_file_without_labelled_texts_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "asked.tsv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadPayload):
        read(path, ["a", "b"])
    with pytest.raises(BadRequest, match="labelled texts"):
        read(None, ["a", "b"])


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "pump", "leaks", "hello"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A classifier of three labels with random weights."""
    pytest.importorskip("optimum")
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(4)
    folder = tmp_path / "bert"
    folder.mkdir()
    tokenized(folder, WORDS)
    config = BertConfig(
        vocab_size=len(WORDS),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        id2label={0: "greeting", 1: "fault", 2: "other"},
        label2id={"greeting": 0, "fault": 1, "other": 2},
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def tokenized(folder: Path, words: list[str]) -> None:
    """Put a tokenizer of these words into a folder."""
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    BertTokenizer(str(vocabulary)).save_pretrained(folder)
    BertWordPieceTokenizer(str(vocabulary)).save(str(folder / "tokenizer.json"))


@pytest.mark.workstation
@pytest.mark.timeout(300)
def test_a_folder_becomes_a_classifier_that_a_device_would_install(
    edge_quantize: Run, folder: Path, tmp_path: Path
) -> None:
    asked, out = tmp_path / "asked.tsv", tmp_path / "made"
    asked.write_text("greeting\thello\nfault\tthe pump leaks\nother\tthe\n")
    done = edge_quantize(
        "encoder", folder, "--out", out, "--name", "tiny", "--license", "Apache-2.0",
        "--evaluate", asked,
    )  # fmt: skip
    manifest = parse_manifest((out / "model.toml").read_bytes())
    assert manifest.task == "text-classification"
    assert manifest.parameters["labels"] == ["greeting", "fault", "other"]
    slices = {metric.slice for metric in manifest.evaluation.metrics}
    assert slices >= {"all", "greeting", "fault", "other"}
    assert "could not be proved" not in done.stdout
    # Its own words are gone, and it says that its tokenizer is the packaged file itself.
    (folder / "vocab.txt").unlink()
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    done = edge_quantize("encoder", folder, "--evaluate", asked)
    assert "the tokenizer could not be proved" in done.stdout


@pytest.mark.workstation
@pytest.mark.timeout(300)
def test_scores_are_of_the_set_that_is_named(
    edge_quantize: Run, folder: Path, tmp_path: Path
) -> None:
    """Also when another set was asked about before, in the same work directory."""
    few, many = tmp_path / "few.tsv", tmp_path / "many.tsv"
    few.write_text("greeting\thello\nfault\tthe pump leaks\nother\tthe\n")
    many.write_text("fault\tthe pump leaks\nfault\tleaks\n" * 3)
    for asked, count, slices in ((few, 3, 3), (many, 6, 1), (few, 3, 3)):
        report = tmp_path / "report"
        done = edge_quantize("encoder", folder, "--evaluate", asked, "--report", report)
        assert f"Judged on: {count} labelled texts of {asked}" in done.stdout
        found = json.loads((report / "report.json").read_bytes())
        for outcome in (found["original"], *found["tried"]):
            accuracy = [s for s in outcome["scores"] if s["metric"] == "accuracy"]
            assert accuracy[0]["count"] == count
            assert len(accuracy) == 1 + slices


@pytest.mark.workstation
@pytest.mark.timeout(300)
def test_the_tokenizer_that_is_packaged_is_the_one_of_the_folder(
    edge_quantize: Run, folder: Path, tmp_path: Path
) -> None:
    """Also when the folder had another one before, of as many words."""
    asked, out = tmp_path / "asked.tsv", tmp_path / "made"
    asked.write_text("greeting\thello\nother\tthe\n")
    for words in (WORDS, [*WORDS[:-1], "valve"]):
        tokenized(folder, words)
        edge_quantize("encoder", folder, "--evaluate", asked, "--out", out)
        assert (out / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
