"""What the workstation's families package is signed, installed and answers through the daemon."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.support import tiny_language
from tests.support.device import device, install_models
from tests.support.quantized import answers_its_golden_cases, edge_quantize
from tests.tools.quantize.test_torch import BUILDER

pytestmark = [pytest.mark.workstation, pytest.mark.timeout(600)]

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz"]
WORDS += [f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"]


def test_a_state_dict(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the workstation's environment")
    from safetensors.torch import save_file

    from tools.quantize.onnx.builder import find_builder

    builder = tmp_path / "network.py"
    builder.write_text(BUILDER)
    weights = tmp_path / "network.safetensors"
    save_file(find_builder(f"{builder}:build")()[0].state_dict(), str(weights))
    package = edge_quantize(tmp_path / "network", "torch", weights, "--builder", f"{builder}:build")
    with device(tmp_path / "d", "", install_models(tmp_path / "m", [package])) as found:
        answers_its_golden_cases(found.start(), package)


def test_an_encoder(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs the workstation's environment")
    from tokenizers import BertWordPieceTokenizer

    folder = tmp_path / "hf"
    config = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=64, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=128, max_position_embeddings=256,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder, safe_serialization=True)
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(WORDS))
    transformers.BertTokenizer(str(vocabulary)).save_pretrained(folder)
    BertWordPieceTokenizer(str(vocabulary)).save(str(folder / "tokenizer.json"))
    package = edge_quantize(tmp_path / "encoder", "encoder", folder)
    asked = json.dumps({"model": "encoder", "input": ["the pump leaks", "a gauge"]}).encode()
    with device(tmp_path / "d", "", install_models(tmp_path / "m", [package])) as found:
        answer = found.start().post("/v1/embeddings", asked)
    assert answer.status == 200, answer.body
    vectors = np.array([entry["embedding"] for entry in answer.json["data"]])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)


def test_a_language_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the workstation's environment")
    transformers = pytest.importorskip("transformers", reason="needs the workstation's environment")
    torch.manual_seed(5)
    folder = tmp_path / "hf"
    config = transformers.LlamaConfig(
        vocab_size=288, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=4096,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config)
    model.save_pretrained(folder, safe_serialization=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_bytes(tiny_language.files()[name])
    package = edge_quantize(tmp_path / "talker", "language", folder, "--recipe", "int8")
    question = [{"role": "user", "content": "Where is the pump?"}]
    asked = json.dumps({"model": "talker", "messages": question, "max_tokens": 8}).encode()
    with device(tmp_path / "d", "", install_models(tmp_path / "m", [package])) as found:
        answer = found.start().post("/v1/chat/completions", asked)
    assert answer.status == 200, answer.body
    assert answer.json["usage"]["completion_tokens"] > 0
