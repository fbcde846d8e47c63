"""Larger models of known architectures: their full layer shapes, fewer layers, random weights.

What is true of two layers of these shapes is true of all: the graph computes what the original does.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny_language
from tools.quantize.family import Artifact
from tools.quantize.language import source
from tools.quantize.language.evaluation import opened
from tools.quantize.language.recipes import Weights, artifact

LAYERS = 2
TOKENS = np.array(
    [1, 72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100, 5, 200, 33], np.int32
)


@dataclass(frozen=True)
class Architecture:
    """A model's configuration, but for the number of its layers."""

    config: str
    fields: dict[str, Any]


ARCHITECTURES = {
    "TinyLlama-1.1B": Architecture(
        "LlamaConfig",
        {
            "vocab_size": 32000,
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "max_position_embeddings": 2048,
            "rms_norm_eps": 1e-5,
            "tie_word_embeddings": False,
        },
    ),
    "Phi-3-mini-4k": Architecture(
        "Phi3Config",
        {
            "vocab_size": 32064,
            "hidden_size": 3072,
            "intermediate_size": 8192,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "max_position_embeddings": 4096,
            "original_max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "sliding_window": 2047,
            "tie_word_embeddings": False,
            "bos_token_id": 1,
            "eos_token_id": 32000,
            "pad_token_id": 32000,
        },
    ),
}


def silent(_text: str, _share: float) -> None:
    """Progress that nobody looks at."""


def saved(architecture: Architecture, place: Path) -> np.ndarray:
    """Save a random model as a Hugging Face folder; the logits after TOKENS."""
    torch = pytest.importorskip("torch", reason="needs the workstation's environment")
    transformers = pytest.importorskip("transformers", reason="needs the workstation's environment")
    torch.manual_seed(5)
    kind = getattr(transformers, architecture.config)
    config = kind(num_hidden_layers=LAYERS, **architecture.fields)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(place, safe_serialization=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).write_bytes(tiny_language.files()[name])
    with torch.no_grad():
        logits = model(torch.tensor([TOKENS.tolist()])).logits[0, -1]
    found: np.ndarray = logits.numpy()
    return found


def logits(made: Artifact) -> np.ndarray:
    session = opened(made)
    try:
        return session.run({"tokens": TOKENS})["logits"]
    finally:
        session.close()


@pytest.mark.workstation
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_larger_model_computes_what_its_original_does(name: str, tmp_path: Path) -> None:
    original = tmp_path / "hf"
    expected = saved(ARCHITECTURES[name], original)
    target = tmp_path / "float"
    target.mkdir()
    source.check(original)
    source.built(original, source.staged(original, tmp_path / "staged", silent), target, silent)
    found = logits(artifact(target))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())

    for recipe in (Weights("rounded", ""), Weights("shifted", "", shifted=True, head_block=64)):
        small = tmp_path / recipe.name
        small.mkdir()
        made = recipe.build(artifact(target), small, silent)
        assert np.corrcoef(logits(made), expected)[0, 1] > 0.95
        # Two layers are little beside an embedding and a head of 8 bits each.
        assert made.size < 0.56 * _float16_bytes(target)


def _float16_bytes(folder: Path) -> float:
    return sum(f.stat().st_size for f in folder.glob("model.onnx*")) / 2
