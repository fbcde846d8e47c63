"""What an encoder is judged by, and what is refused before it is quantized."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.errors import BadModel
from tests.support import tiny_encoder
from tools.quantize.encoder.command import encoder, samples, settings_of
from tools.quantize.encoder.family import spearman
from tools.quantize.encoder.pairs import PAIRS, pairs
from tools.quantize.encoder.proof import check


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
    made = samples(tiny_encoder.tokenizer(), ["input_ids", "attention_mask"])
    assert ((made.inputs["input_ids"] != 0) == (made.inputs["attention_mask"] == 1)).all()


def test_pooling_is_what_sentence_transformers_wrote(tmp_path: Path) -> None:
    assert settings_of(tmp_path)["pooling"] == "mean"
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text('{"pooling_mode_cls_token": true}')
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 128}')
    assert settings_of(tmp_path) == {"pooling": "cls", "normalize": True, "max_tokens": 128}
    (tmp_path / "sentence_bert_config.json").write_text("{")
    with pytest.raises(BadModel):
        settings_of(tmp_path)


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
    assert check(tmp_path, 64)
    BertWordPieceTokenizer(str(vocabulary), lowercase=False).save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(BadModel, match="The pump in the cellar"):
        check(tmp_path, 64)
