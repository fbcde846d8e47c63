"""Models that are damaged, unsafe or of another kind, at the command line: told in our words."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.support import hub, tiny_language
from tests.support.device import ROOT
from tests.support.safetensors import safetensors
from tests.tools.quantize.conftest import Done, Run

EVIL = b"cos\nsystem\n(S'touch ran'\ntR."
WEIGHTS = safetensors({"a": np.ones((8, 8), np.float32)})
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 259}
LLAMA |= {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
LLAMA |= {"num_hidden_layers": 1, "num_key_value_heads": 2, "bos_token_id": 256}
GPT2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 259}
BERT = {"architectures": ["BertModel"], "model_type": "bert", "vocab_size": 259}
WHISPER = {"architectures": ["WhisperForConditionalGeneration"], "model_type": "whisper"}
CONFIGS = {"language": LLAMA, "encoder": BERT, "onnx": BERT, "whisper": WHISPER}


def folder_of(place: Path, config: object, weights: bytes | None = WEIGHTS) -> Path:
    place.mkdir()
    (place / "config.json").write_text(json.dumps(config))
    (place / "preprocessor_config.json").write_text('{"sampling_rate": 16000}')
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (place / name).write_bytes(tiny_language.files()[name])
    if weights is not None:
        (place / "model.safetensors").write_bytes(weights)
    return place


@pytest.fixture
def refused(edge_quantize: Run, tmp_path: Path) -> Callable[[str, Path], Done]:
    """Run a family on a source that it refuses, without a word of where it was put for a library."""
    (tmp_path / "a.wav").write_bytes(_wave())
    (tmp_path / "heard.jsonl").write_text('{"audio": "a.wav", "text": "one"}\n')

    def run(family: str, source: Path) -> Done:
        options = ("--evaluate", tmp_path / "heard.jsonl") if family == "whisper" else ()
        done = edge_quantize(family, source, *options, status=2)
        last = done.stderr.splitlines()[-1]
        assert "[model.invalid]" in last
        assert str(source) in last
        assert str(tmp_path / "work") not in last
        return done

    return run


def _wave() -> bytes:
    import io
    import wave

    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(bytes(32_000))
    return out.getvalue()


# Damaged.


@pytest.mark.parametrize(
    ("data", "says"), [(b"garbage", "no GGUF file"), (b"", "empty"), (EVIL, "no GGUF file")]
)
def test_a_file_that_is_no_gguf(
    refused: Callable[[str, Path], Done], tmp_path: Path, data: bytes, says: str
) -> None:
    (tmp_path / "model.gguf").write_bytes(data)
    assert says in refused("language", tmp_path / "model.gguf").stderr


@pytest.mark.workstation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kept", [5, 200, -4000])
def test_a_gguf_file_that_ends_early(
    refused: Callable[[str, Path], Done], tmp_path: Path, kept: int
) -> None:
    import gguf

    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(2)
    writer.add_tensor("token_embd.weight", np.ones((259, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.write_bytes(path.read_bytes()[:kept])
    assert "cannot be read" in refused("language", path).stderr


@pytest.mark.parametrize("family", CONFIGS)
def test_weights_that_end_early(
    refused: Callable[[str, Path], Done], tmp_path: Path, family: str
) -> None:
    source = folder_of(tmp_path / "model", CONFIGS[family], WEIGHTS[:-1])
    done = refused(family, source)
    assert f"it ends early: {len(WEIGHTS) - 1} of {len(WEIGHTS)} bytes" in done.stderr
    assert "model.safetensors" in done.stderr


@pytest.mark.parametrize("family", CONFIGS)
def test_a_part_of_the_weights_that_is_missing(
    refused: Callable[[str, Path], Done], tmp_path: Path, family: str
) -> None:
    source = folder_of(tmp_path / "model", CONFIGS[family], None)
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "model-00001-of-00002.safetensors: a file of" in refused(family, source).stderr
    for wrong in ("{", "[]", "{}", '{"weight_map": {"a": "../../etc/passwd"}}'):
        (source / "model.safetensors.index.json").write_text(wrong)
        assert "model.safetensors.index.json" in refused(family, source).stderr


@pytest.mark.parametrize(
    "data", [b"\xff", b"{", b"[]", b"{}", b'{"model": 1, "pre_tokenizer": []}']
)
def test_a_damaged_tokenizer(
    refused: Callable[[str, Path], Done], tmp_path: Path, data: bytes
) -> None:
    source = folder_of(tmp_path / "model", BERT)
    (source / "tokenizer.json").write_bytes(data)
    assert "tokenizer.json" in refused("encoder", source).stderr


@pytest.mark.parametrize("data", [b"\xff", b"{", b"[]", b"{}"])
def test_a_damaged_tokenizer_of_a_language_model(
    refused: Callable[[str, Path], Done], tmp_path: Path, data: bytes
) -> None:
    source = folder_of(tmp_path / "model", LLAMA)
    (source / "tokenizer.json").write_bytes(data)
    if data != b"{}":  # which only the library misses something in
        assert "tokenizer.json" in refused("language", source).stderr


@pytest.mark.workstation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", CONFIGS)
def test_a_configuration_that_no_library_knows(
    refused: Callable[[str, Path], Done], tmp_path: Path, family: str
) -> None:
    config = {**CONFIGS[family], "architectures": ["Nothing"]}
    config["hidden_size"] = config["d_model"] = "wide"
    source = folder_of(tmp_path / "model", config)
    assert "internal error" not in refused(family, source).stderr


@pytest.mark.workstation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("config", [GPT2, BERT])
def test_an_architecture_that_the_builder_lacks(
    refused: Callable[[str, Path], Done], tmp_path: Path, config: dict[str, object]
) -> None:
    done = refused("language", folder_of(tmp_path / "model", config))
    assert f"has no architecture {config['architectures'][0]}" in done.stderr  # type: ignore[index]
    assert "edge-quantize encoder" in done.stderr


# Unsafe.


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("beside", [None, "weights.safetensors", "model-00001-of-1.safetensors"])
def test_a_pickle_is_refused_unread_where_transformers_finds_nothing_else(
    refused: Callable[[str, Path], Done], tmp_path: Path, family: str, beside: str | None
) -> None:
    source = folder_of(tmp_path / "model", CONFIGS[family], None)
    (source / "pytorch_model.bin").write_bytes(EVIL)
    if beside:
        (source / beside).write_bytes(WEIGHTS)
    done = refused(family, source)
    assert "pytorch_model.bin: pickle files run code" in done.stderr
    assert f'f = "{source}"' in done.stderr
    assert "safe_serialization=True" in done.stderr
    assert not Path("ran").exists()


@pytest.mark.workstation
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["model", 'it\'s a "model"'])
def test_the_command_that_is_offered_makes_what_is_then_taken(
    edge_quantize: Run, tmp_path: Path, name: str
) -> None:
    import torch

    source = _resnet(tmp_path / name, safe=False)
    done = edge_quantize("onnx", source, status=2)
    assert (source / "pytorch_model.bin").is_file()
    subprocess.run(_offered(done), check=True, cwd=tmp_path)
    (source / "pytorch_model.bin").write_bytes(EVIL)
    random = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", inputs=random.random((40, 3, 64, 64), np.float32))
    edge_quantize("onnx", source, "--evaluate", tmp_path / "set.npz")
    assert not Path("ran").exists()
    # A state dict by itself, with tied weights.
    tied = torch.ones(4, 4)
    torch.save({"a": tied, "b": tied.t()}, tmp_path / "state.pt")
    done = edge_quantize("torch", tmp_path / "state.pt", "--builder", "x:y", status=2)
    subprocess.run(_offered(done), check=True, cwd=tmp_path)
    assert (tmp_path / "state.safetensors").is_file()


def _offered(done: Done) -> list[str]:
    found = re.search(r"convert it to safetensors: (python .*) \[model.invalid\]", done.stderr)
    assert found is not None
    python, *rest = shlex.split(found[1])
    assert python == "python"
    return [sys.executable, *rest]


def _resnet(place: Path, *, safe: bool) -> Path:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(1)
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=3
    )
    ResNetForImageClassification(config).save_pretrained(place, safe_serialization=safe)
    return place


# By name.


@pytest.mark.parametrize("family", ["language", "encoder", "onnx"])
def test_a_name_is_fetched_from_the_hub(tmp_path: Path, family: str) -> None:
    pytest.importorskip("huggingface_hub")
    source = folder_of(tmp_path / "model", CONFIGS[family], WEIGHTS[:-1])
    with hub.served("org/model", source) as address:
        done = _named(family, tmp_path, address)
    assert done.returncode == 2
    assert "it ends early" in done.stderr


@pytest.mark.parametrize("family", ["language", "encoder", "onnx"])
def test_a_name_without_a_hub_is_said_alike_by_every_family(tmp_path: Path, family: str) -> None:
    pytest.importorskip("huggingface_hub")
    done = _named(family, tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "org/model: neither a path here nor to be had from the hub" in done.stderr


def _named(family: str, tmp_path: Path, address: str) -> "subprocess.CompletedProcess[str]":
    """The command in a process of its own: the client looks for its hub once."""
    command = [sys.executable, "-m", "tools.quantize", family, "org/model"]
    # Engines that were loaded in this process have switched the hub off in its environment.
    online = {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "0"}
    environment = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home"), **online}
    return subprocess.run(
        [*command, "--work", str(tmp_path / "work")],
        env={**os.environ, **environment}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


# Too large.


@pytest.mark.parametrize("family", ["language", "encoder", "onnx", "torch"])
def test_what_does_not_fit_is_refused_before_its_weights_are_read(
    edge_quantize: Run, tmp_path: Path, family: str
) -> None:
    """A terabyte that is sparse: reading it, if only for its digest, would take an hour."""
    source = folder_of(tmp_path / "model", CONFIGS.get(family, BERT))
    with (source / "model.safetensors").open("r+b") as file:
        file.truncate(2**40)
    options = ()
    if family == "torch":
        source, options = source / "model.safetensors", ("--builder", "x:y")
    if family == "encoder":  # whose tokenizer is proved first
        pytest.importorskip("transformers")
    done = edge_quantize(family, source, *options, status=4)
    assert "MiB of memory are needed at the peak" in done.stderr


@pytest.mark.parametrize(
    ("family", "known"),
    [
        ("language", "int4-shifted-head8, int4-gptq-head8, int4-rtn-head8, int4-rtn-b64"),
        ("encoder", "int8-dynamic, int4-weights"),
        ("whisper", "int8, int8-float16, float16"),
        ("onnx", "int8-static-minmax, int8-static-entropy, int8-static-percentile, int8-dynamic"),
        ("torch", "int8-static-minmax, int8-static-entropy, int8-static-percentile, int8-dynamic"),
        ("tflite", "slim, as-given"),
    ],
)
def test_an_unknown_recipe_is_told_before_the_source_is_read(
    edge_quantize: Run, tmp_path: Path, family: str, known: str
) -> None:
    """The export of a large model takes minutes, and comes before its recipes."""
    source = tmp_path / "model"
    source.write_bytes(b"neither read nor exported")
    more = ("--builder", "network.py:build") if family == "torch" else ()
    done = edge_quantize(family, source, *more, "--recipe", "int3", status=2)
    assert 'there is no recipe "int3"' in done.stderr
    assert known in done.stderr
    assert str(source) not in done.stderr
