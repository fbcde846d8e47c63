"""What an encoder is judged by, and what is refused before it is quantized."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.errors import BadModel
from agent.types import TensorSpec
from tests.support import tiny_encoder
from tests.support.safetensors import safetensors
from tests.tools.quantize.conftest import Run
from tools.quantize.encoder.command import encoder, samples
from tools.quantize.encoder.family import spearman
from tools.quantize.encoder.modules import pooling, window
from tools.quantize.encoder.pairs import PAIRS, pairs
from tools.quantize.encoder.proof import check
from tools.quantize.proof import ITSELF


def test_pairs_are_the_same_each_time_and_of_every_slice() -> None:
    found = pairs()
    assert len(found) == PAIRS
    assert found == pairs()
    assert {pair.slice for pair in found} == {"questions", "reports", "requests", "long"}
    assert "{" not in "".join(pair.first + pair.second for pair in found)


def test_rank_correlation_sees_the_order_only() -> None:
    values = np.array([0.1, 0.5, 0.5, 0.9])
    assert spearman(values, values**3) == pytest.approx(1)
    assert spearman(values, -values) == pytest.approx(-1)
    # By hand: ranks 1 2.5 2.5 4 and 2 1 3 4.
    assert spearman(values, np.array([0.2, 0.1, 0.3, 0.4])) == pytest.approx(0.6324555)


def test_sentences_are_padded_where_the_mask_is_zero() -> None:
    inputs = [TensorSpec(name, "INT64", (-1, -1)) for name in ("input_ids", "attention_mask")]
    made = samples(tiny_encoder.tokenizer(), inputs)
    assert ((made.inputs["input_ids"] != 0) == (made.inputs["attention_mask"] == 1)).all()


def test_a_graph_that_takes_what_no_encoder_is_given_is_refused_by_the_inputs_name() -> None:
    inputs = [TensorSpec("input_ids", "INT64", (-1, -1)), TensorSpec("pixels", "FP32", (-1, 3))]
    with pytest.raises(BadModel, match="pixels"):
        samples(tiny_encoder.tokenizer(), inputs)


def listed(folder: Path, *kinds: str, config: str = "{}") -> Path:
    """A folder with `modules.json` and the pooling's configuration."""
    paths = ["", *(f"{n}_{kind}" for n, kind in enumerate(kinds[1:], 1))]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(config)
    return folder


CLS = '{"word_embedding_dimension": 384, "pooling_mode_cls_token": true}'


def test_a_folder_that_says_nothing_has_the_mean_at_length_one(tmp_path: Path) -> None:
    assert pooling(tmp_path) == {"pooling": "mean", "normalize": True}
    assert window(tmp_path) == 256


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ("{}", "mean"),
        (CLS, "cls"),
        ('{"pooling_mode_mean_tokens": true, "pooling_mode_max_tokens": false}', "mean"),
        ('{"pooling_mode": "cls", "include_prompt": true}', "cls"),
        ('{"pooling_mode": "mean"}', "mean"),
    ],
)
def test_pooling_is_what_sentence_transformers_wrote(
    tmp_path: Path, config: str, found: str
) -> None:
    listed(tmp_path, "Transformer", "Pooling", "Normalize", config=config)
    assert pooling(tmp_path) == {"pooling": found, "normalize": True}
    listed(tmp_path, "Transformer", "Pooling", config=config)
    assert pooling(tmp_path) == {"pooling": found, "normalize": False}


@pytest.mark.parametrize(
    ("kinds", "config", "says"),
    [
        (("Transformer", "Pooling", "Dense", "Normalize"), CLS, "Dense (2_Dense)"),
        (("Transformer", "Pooling", "Normalize", "Dense"), CLS, "Dense (3_Dense)"),
        (("WordEmbeddings", "Pooling"), CLS, "WordEmbeddings"),
        (("Transformer", "Normalize"), CLS, "Normalize (1_Normalize)"),
        (("Transformer",), CLS, "lists no pooling"),
        (("Transformer", "Pooling"), '{"pooling_mode_max_tokens": true}', "max_tokens"),
        (("Transformer", "Pooling"), '{"pooling_mode": "lasttoken"}', "lasttoken"),
        (
            ("Transformer", "Pooling"),
            '{"pooling_mode_mean_tokens": true, "pooling_mode_cls_token": true}',
            "mean_tokens, cls_token",
        ),
        (("Transformer", "Pooling"), "{", "1_Pooling/config.json: cannot be read"),
        (("Transformer", "Pooling"), "[]", "1_Pooling/config.json: holds no JSON object"),
    ],
)
def test_what_a_device_does_not_do_is_refused_by_name(
    tmp_path: Path, kinds: tuple[str, ...], config: str, says: str
) -> None:
    listed(tmp_path, *kinds, config=config)
    with pytest.raises(BadModel) as refused:
        pooling(tmp_path)
    assert says in str(refused.value)


def test_a_pooling_that_is_listed_must_be_there(tmp_path: Path) -> None:
    listed(tmp_path, "Transformer", "Pooling")
    (tmp_path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(BadModel, match="1_Pooling"):
        pooling(tmp_path)


def test_a_module_is_refused_before_anything_is_loaded(edge_quantize: Run, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    listed(folder, "Transformer", "Pooling", "Dense")
    (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    (folder / "model.safetensors").write_bytes(safetensors({}))
    done = edge_quantize("encoder", folder, "--out", tmp_path / "package", status=2)
    assert "modules.json" in done.stderr
    assert "Dense (2_Dense)" in done.stderr
    done = edge_quantize("encoder", folder, "--evaluate", tmp_path / "asked.tsv", status=2)
    assert "only a classifier is judged on texts of yours" in done.stderr


@pytest.mark.parametrize(("text", "found"), [("{}", 256), ('{"max_seq_length": null}', 256)])
def test_a_window_that_is_not_said_is_the_usual_one(tmp_path: Path, text: str, found: int) -> None:
    (tmp_path / "sentence_bert_config.json").write_text(text)
    assert window(tmp_path) == found
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert window(tmp_path) == 128


@pytest.mark.parametrize("text", ["{", "[]", '{"max_seq_length": "a"}', '{"max_seq_length": 1}'])
def test_a_window_that_cannot_be_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sentence_bert_config.json").write_text(text)
    with pytest.raises(BadModel, match="sentence_bert_config"):
        window(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match=r"tokenizer\.json"):
        check(tmp_path, 256)


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(encoder, [str(tmp_path)])
    assert isinstance(result.exception, BadModel)


@pytest.mark.workstation
def test_a_tokenizer_that_reads_unlike_transformers_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertTokenizer

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "pump", "in", "is", ".", "a"]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    BertTokenizer(str(vocabulary)).save_pretrained(tmp_path)
    BertWordPieceTokenizer(str(vocabulary)).save(str(tmp_path / "tokenizer.json"))
    assert check(tmp_path, 64) == ((tmp_path / "tokenizer.json").read_bytes(), ())
    BertWordPieceTokenizer(str(vocabulary), lowercase=False).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadModel, match=r"a device reads .* from token \d+ on"):
        check(tmp_path, 64)


@pytest.mark.workstation
def test_a_tokenizer_that_would_be_compared_with_itself_is_told(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "tokenizer.json").write_bytes(tiny_encoder.tokenizer())
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "tokenizer_config.json").write_text(
        '{"tokenizer_class": "PreTrainedTokenizerFast"}'
    )
    assert check(tmp_path, 64) == (tiny_encoder.tokenizer(), (ITSELF,))
