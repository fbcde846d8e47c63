"""What fitting takes in memory is stated before it starts."""

import json
from pathlib import Path

import pytest

from tests.support import tiny_language
from tests.support.safetensors import safetensors
from tools.quantize.language.calibration import curvatures
from tools.quantize.language.family import LanguageFamily, LanguageSource
from tools.quantize.language.fitting import curvatures as curvature_bytes
from tools.quantize.language.fitting import needed


def test_curvatures_take_what_was_reckoned(tmp_path: Path) -> None:
    for name, data in tiny_language.files().items():
        (tmp_path / name).write_bytes(data)
    made = curvatures(tmp_path, [[1, 72, 101, 108, 108, 111]], lambda _text, _share: None)
    measured = sum(array.nbytes for array in made.values())
    reckoned = curvature_bytes(tiny_language.LAYERS, tiny_language.HIDDEN, tiny_language.INNER)
    assert measured <= reckoned <= 1.1 * measured


@pytest.mark.parametrize(
    ("layers", "hidden", "inner", "gib"),
    [(30, 576, 1536, 0.4), (28, 1536, 8960, 9.4)],
    ids=["SmolLM2-135M", "Qwen2.5-1.5B"],
)
def test_the_statement_grows_with_the_model(
    tmp_path: Path, layers: int, hidden: int, inner: int, gib: float
) -> None:
    sizes = {"num_hidden_layers": layers, "hidden_size": hidden, "intermediate_size": inner}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    (tmp_path / "model.safetensors").write_bytes(safetensors({}))
    (tmp_path / "tokenizer.json").write_bytes(b"{}")
    assert needed(tmp_path) > gib * 2**30
    assert LanguageFamily(LanguageSource(tmp_path)).needs_bytes() > needed(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"hidden_size": "wide"}'])
def test_a_configuration_that_says_nothing_is_left_to_the_reader(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    assert needed(tmp_path) == 0
