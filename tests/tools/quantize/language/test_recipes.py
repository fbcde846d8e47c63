"""Recipes on a real graph, in the real runtime."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import GenerationRequest
from agent.errors import BadModel
from tests.support import tiny_language
from tests.support.safetensors import safetensors
from tools.quantize.family import Artifact
from tools.quantize.language import graph
from tools.quantize.language.calibration import TEXTS, curvatures
from tools.quantize.language.recipes import RECIPES, Weights, artifact
from tools.quantize.language.room import Shape, needed_mib
from tools.quantize.language.rotary import TABLES
from tools.quantize.language.source import check

TOKENS = np.frombuffer(b"Where is the pump, and who looks after it?", np.uint8).astype(np.int32)


@pytest.fixture
def original(tmp_path: Path) -> Artifact:
    place = tmp_path / "original"
    place.mkdir()
    for name, data in tiny_language.files().items():
        (place / name).write_bytes(data)
    texts = [np.random.default_rng(n).integers(0, 256, 80).tolist() for n in range(12)]
    (place / TEXTS).write_bytes(msgspec.json.encode(texts))
    return artifact(place)


def logits(made: Artifact) -> np.ndarray:
    files = {name: (made.directory / name).read_bytes() for name in made.files}
    session = GenAiSession(b"", EngineOptions(1, files))
    try:
        list(session.generate(GenerationRequest(text="it writes", max_tokens=3)))
        return session.run({"tokens": TOKENS})["logits"]
    finally:
        session.close()


def built(recipe: Weights, original: Artifact, place: Path) -> Artifact:
    place.mkdir()
    return recipe.build(original, place, lambda _text, _share: None)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)
def test_a_recipe_makes_a_model_that_the_runtime_runs(
    recipe: Weights, original: Artifact, tmp_path: Path
) -> None:
    if recipe.block > 32:
        pytest.skip("the tiny model's matrices have no such blocks")
    expected = logits(original)
    found = logits(built(recipe, original, tmp_path / recipe.name))
    agreement = np.corrcoef(expected, found)[0, 1]
    assert agreement > (0.999 if recipe.bits == 8 else 0.9)
    assert not np.array_equal(expected, found)


class Stopped(Exception):
    """The work was interrupted."""


def test_only_a_recipe_that_is_fitted_has_the_model_write_what_it_is_calibrated_with(
    original: Artifact, tmp_path: Path
) -> None:
    texts = original.directory / TEXTS
    texts.unlink()

    def stop(text: str, _share: float) -> None:
        if text.startswith("Writing"):
            raise Stopped(text)

    for recipe in RECIPES:
        place = tmp_path / recipe.name
        place.mkdir()
        if recipe.fitted:
            with pytest.raises(Stopped, match="Writing what the model is calibrated with"):
                recipe.build(original, place, stop)
        elif recipe.block <= 32:
            recipe.build(original, place, stop)
        assert not texts.exists()


@pytest.mark.parametrize("name", ["int4-rtn-head8", "int4-gptq-head8"])
def test_a_bar_goes_on_to_the_last_matrix(name: str, original: Artifact, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []
    recipe = next(recipe for recipe in RECIPES if recipe.name == name)
    recipe.build(original, tmp_path, lambda text, share: told.append((text, share)))
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert told[-1][0] == "Rounding matrices"
    assert 0.9 < shares[-1] < 1


def test_matrices_that_hurt_are_spared_the_worst_first(original: Artifact, tmp_path: Path) -> None:
    recipe = Weights("r", "", head=8)
    made = built(recipe, original, tmp_path / "r")
    layers = sorted(_layers(made), key=lambda layer: layer.sqnr_db)
    milder = recipe.sparing(layers)
    assert milder is not None
    assert milder.wide == {layer.name for layer in layers[:2]}  # a tenth of fifteen
    assert milder.name == "r+2"
    better = built(milder, original, tmp_path / "milder")
    noise = {layer.name: layer.sqnr_db for layer in _layers(better)}
    assert noise[layers[0].name] > layers[0].sqnr_db + 15
    again = milder.sparing(layers)
    assert again is not None
    assert len(again.wide) == 4
    assert Weights("i", "", bits=8).sparing(layers) is None


def test_weights_are_counted_as_they_were_given(original: Artifact) -> None:
    """Without the tables of rotary positions, which the model builder adds."""
    model = onnx.load(original.model)
    arrays = [onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert graph.count(model) == sum(a.size for a in arrays if a.dtype == np.float32)
    before = graph.count(model)
    for name in TABLES:
        table = onnx.numpy_helper.from_array(np.zeros((512, 8), np.float32), name)
        model.graph.initializer.append(table)
    assert graph.count(model) == before


def test_the_share_of_float16_is_told(original: Artifact, tmp_path: Path) -> None:
    made = built(RECIPES[0], original, tmp_path / "r")
    weights = original.model.stat().st_size
    share = made.size / (weights / 2 + original.size - weights)
    assert list(made.notes) == [f"{share:.1%} of the size in float16"]


def _layers(made: Artifact) -> list:  # type: ignore[type-arg]
    from tools.quantize.family import LayerError

    return msgspec.json.decode((made.directory / "layers.json").read_bytes(), type=list[LayerError])


def test_a_matrix_without_whole_blocks_stays_as_it_is(original: Artifact, tmp_path: Path) -> None:
    made = built(Weights("b", "", block=128), original, tmp_path / "b")
    np.testing.assert_array_equal(logits(made), logits(original))


def test_curvatures_are_of_what_each_matrix_is_given(original: Artifact) -> None:
    texts = [TOKENS.tolist()]
    found = curvatures(original.directory, texts, lambda _text, _share: None)
    shapes = {array.shape for array in found.values()}
    assert shapes == {(32, 32), (64, 64)}
    for array in found.values():
        np.testing.assert_allclose(array, array.T, rtol=1e-4, atol=1e-3)
        assert np.linalg.eigvalsh(array.astype(np.float64)).min() > -1e-2


def test_a_graph_without_matrices_is_refused(tmp_path: Path) -> None:
    from tests.support.onnx_model import onnx_model

    (tmp_path / "model.onnx").write_bytes(onnx_model(shape=(-1, 4)))
    with pytest.raises(BadModel, match="no matrix"):
        graph.quantized(tmp_path, tmp_path, lambda _node, _matrix: None, lambda _text, _share: None)


# What is no language model.


def test_sources_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="neither a GGUF file nor"):
        check(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadModel, match="no weights"):
        check(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(BadModel, match="pickle") as caught:
        check(tmp_path)
    assert "safe_serialization" in caught.value.hint
    (tmp_path / "model.safetensors").write_bytes(safetensors({"a": np.ones(1)}))
    with pytest.raises(BadModel, match=r"no tokenizer\.json"):
        check(tmp_path)


def test_memory_counts_weights_and_conversations() -> None:
    smollm2 = Shape(layers=30, heads=3, size=64)
    assert smollm2.token_bytes == 46_080
    small = needed_mib(95_000_000, smollm2, 2048, 1)
    assert needed_mib(95_000_000, smollm2, 2048, 4) - small == pytest.approx(270, abs=2)
