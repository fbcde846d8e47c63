"""`edge-quantize whisper` on an untrained Whisper of tiny size, and what it refuses."""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.engines.catalog import ENGINES
from agent.errors import BadModel, BadRequest
from agent.trust.manifest import parse_manifest
from tests.support.safetensors import safetensors
from tests.tools.quantize.whisper.test_recordings import listed, recorded
from tools.quantize.whisper import source
from tools.quantize.whisper.family import WhisperFamily, generated
from tools.quantize.whisper.recordings import Recordings, read

RECIPE = Path(__file__).parents[4] / "models" / "spoken-digits" / "recipe"
Run = Callable[..., Any]


@pytest.fixture
def heard(tmp_path: Path) -> Path:
    recorded(tmp_path / "a.wav", 16_000)
    line = {"audio": "a.wav", "text": "one two", "slice": "quiet"}
    return listed(tmp_path, line, {**line, "slice": "loud"})


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder with all that is looked at before anything is loaded."""
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "whisper"}')
    (folder / "tokenizer.json").write_text('{"added_tokens": [{"content": "<|en|>"}]}')
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    tensors = {"a": np.ones((2, 3)), "b": np.ones(4)}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    return folder


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The recipe's own modules, by their names there."""
    monkeypatch.syspath_prepend(str(RECIPE))
    yield
    for name in ("voices", "speech", "tokens", "train"):
        sys.modules.pop(name, None)


@pytest.fixture
def untrained(tmp_path: Path, recipe: None) -> Path:
    pytest.importorskip("torch")
    pytest.importorskip("ctranslate2")
    import torch
    from tokens import save, tokenizer
    from train import network
    from transformers import WhisperFeatureExtractor

    torch.manual_seed(3)
    folder, tokens = tmp_path / "untrained", tokenizer()
    network(tokens).save_pretrained(folder)
    save(folder, tokens)
    WhisperFeatureExtractor().save_pretrained(folder)
    return folder


def test_weights_are_counted_without_reading_them(bare: Path) -> None:
    assert source.count(bare) == 10


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 9, struct.pack("<Q", 2) + b"[", b"\x02" + b"\0" * 7 + b"{x"]
)
def test_what_is_no_safetensors_file_is_refused(bare: Path, data: bytes) -> None:
    (bare / "model.safetensors").write_bytes(data)
    with pytest.raises(BadModel, match="safetensors"):
        source.count(bare)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("config.json", "holds no model"),
        ("tokenizer.json", "holds no tokenizer.json"),
        ("preprocessor_config.json", "holds no preprocessor_config.json"),
        ("model.safetensors", "has no weights"),
    ],
)
def test_a_folder_without_a_part_is_refused(bare: Path, gone: str, said: str) -> None:
    source.check(bare)
    (bare / gone).unlink()
    with pytest.raises(BadModel, match=said):
        source.check(bare)


def test_a_pickle_is_refused_unread(bare: Path) -> None:
    (bare / "model.safetensors").rename(bare / "pytorch_model.bin")
    with pytest.raises(BadModel, match="pickle"):
        source.check(bare)


def test_another_model_another_rate_and_no_json_are_refused(bare: Path) -> None:
    (bare / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(BadModel, match="16000 Hz"):
        source.check(bare)
    for text, said in (('{"model_type": "bert"}', "bert"), ("{", "read"), ("[]", "object")):
        (bare / "config.json").write_text(text)
        with pytest.raises(BadModel, match=said):
            source.check(bare)


def test_a_language_that_the_model_lacks_is_refused(bare: Path, heard: Path) -> None:
    for language in ("", "en"):
        WhisperFamily(bare, read(heard), language)
    with pytest.raises(BadRequest, match="xx"):
        WhisperFamily(bare, read(heard), "xx")


def test_work_is_named_by_model_set_and_language(bare: Path) -> None:
    sets = [Recordings((), digest, "") for digest in "ab"]
    keys = {WhisperFamily(bare, s, language).key for s in sets for language in ("", "en")}
    assert len(keys) == 4
    path = bare / "tokenizer.json"
    before = path.stat()
    os.utime(path)
    assert WhisperFamily(bare, sets[0]).key in keys  # the same bytes
    path.write_bytes(path.read_bytes().replace(b"<|en|>", b"<|de|>"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert WhisperFamily(bare, sets[0]).key not in keys  # as many others, of the same time


def test_the_generated_sound_is_the_same_each_time() -> None:
    sound = generated()
    assert (sound.dtype, sound.shape) == (np.float32, (32_000,))
    assert np.abs(sound).max() <= 1
    assert (sound == generated()).all()


def test_too_little_memory_is_said_before_anything_is_loaded(
    edge_quantize: Run, bare: Path, heard: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tools.quantize.memory.available", lambda: 2**20)
    done = edge_quantize("whisper", bare, "--evaluate", heard, status=None)
    assert "MiB of memory are needed" in done.stderr


def test_without_recordings_it_is_refused_with_a_hint(edge_quantize: Run, bare: Path) -> None:
    done = edge_quantize("whisper", bare, status=None)
    assert '"audio": "x.wav"' in done.stderr


@pytest.mark.workstation
@pytest.mark.timeout(300)
def test_every_recipe_is_built_judged_and_timed(
    edge_quantize: Run, untrained: Path, heard: Path, tmp_path: Path
) -> None:
    sizes = {}
    for recipe in ("int8", "int8-float16", "float16"):
        report = tmp_path / recipe
        given = ("--evaluate", heard, "--recipe", recipe, "--report", report, "--language", "en")
        edge_quantize("whisper", untrained, *given)
        found = json.loads((report / "report.json").read_bytes())
        outcome = found["tried"][0]
        sizes[recipe] = outcome["figures"]["size"] / found["original"]["figures"]["size"]
        assert {s["slice"] for s in outcome["scores"]} == {"all", "quiet", "loud"}
        assert {s["metric"] for s in outcome["scores"]} == {"word error rate"}
        assert outcome["figures"]["p50_ms"] > 0
        assert bool(outcome["layers"]) == recipe.startswith("int8")
    assert sizes["int8-float16"] < sizes["int8"] < sizes["float16"] < 1


@pytest.mark.workstation
def test_a_tokenizer_that_reads_unlike_transformers_is_refused(untrained: Path) -> None:
    from tools.quantize.whisper import proof

    proof.tokenizer(untrained)
    path = untrained / "tokenizer.json"
    described = json.loads(path.read_bytes())
    described["model"]["merges"] = described["model"]["merges"][:2]
    path.write_text(json.dumps(described))
    with pytest.raises(BadModel, match="was trained with"):
        proof.tokenizer(untrained)


@pytest.mark.workstation
def test_a_conversion_that_is_not_the_original_is_refused(untrained: Path, tmp_path: Path) -> None:
    import torch
    from transformers import WhisperForConditionalGeneration

    from tools.quantize.whisper import conversion, proof
    from tools.quantize.whisper.evaluation import Transcriber

    made = tmp_path / "made"
    conversion.converted(untrained, made, "float32", "", lambda _, __: None)
    model, sounds = Transcriber(made), [generated(), generated()[:8000]]
    proof.transcripts(untrained, model, sounds)
    other = WhisperForConditionalGeneration.from_pretrained(untrained)
    with torch.no_grad():
        other.model.decoder.layers[1].fc2.weight.mul_(-40)
    other.save_pretrained(untrained)
    with pytest.raises(BadModel, match="not that of transformers"):
        proof.transcripts(untrained, model, sounds)


@pytest.mark.workstation
@pytest.mark.timeout(300)
@pytest.mark.skipif("whisper" not in ENGINES, reason="the engine that runs it is not there")
def test_a_folder_becomes_a_package_that_a_device_would_install(
    edge_quantize: Run, untrained: Path, heard: Path, tmp_path: Path
) -> None:
    out = tmp_path / "package"
    edge_quantize(
        "whisper", untrained, "--evaluate", heard, "--out", out, "--license", "Apache-2.0"
    )
    manifest = parse_manifest((out / "model.toml").read_bytes())
    assert (manifest.engine, manifest.task) == ("whisper", "speech-recognition")
    roles = {file.path: file.role for file in manifest.files}
    assert roles == {
        "model.bin": "model",
        **dict.fromkeys(
            ("config.json", "tokenizer.json", "vocabulary.json", "preprocessor_config.json"), "data"
        ),
        "golden.npz": "golden",
    }
    assert [(s.name, s.dtype, tuple(s.shape)) for s in manifest.inputs] == [
        ("audio", "FP32", (-1,))
    ]
    assert [(s.name, s.dtype) for s in manifest.outputs] == [("tokens", "INT32")]
    assert manifest.parameters["language"] == ""
