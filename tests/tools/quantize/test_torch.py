"""Torch state dicts and Hugging Face folders, in the workstation's environment."""

import json
from pathlib import Path

import numpy as np
import pytest

from agent.errors import BadRequest
from agent.registry.trial import try_model
from agent.trust.manifest import parse_manifest
from tests.tools.quantize.conftest import Run
from tools.quantize.onnx.builder import find_builder

BUILDER = """
import torch
from torch import nn

def build():
    torch.manual_seed(3)
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
              nn.Linear(16 * 64, 128), nn.ReLU(), nn.Linear(128, 4)]
    return nn.Sequential(*layers), torch.zeros(1, 1, 8, 8)
"""


@pytest.fixture
def builder(tmp_path: Path) -> Path:
    path = tmp_path / "network.py"
    path.write_text(BUILDER)
    return path


@pytest.fixture
def state_dict(tmp_path: Path, builder: Path) -> Path:
    from safetensors.torch import save_file

    path = tmp_path / "network.safetensors"
    save_file(find_builder(f"{builder}:build")()[0].state_dict(), str(path))
    return path


@pytest.mark.workstation
def test_a_state_dict_becomes_a_package(
    edge_quantize: Run, state_dict: Path, builder: Path, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    edge_quantize(
        "torch", state_dict, "--builder", f"{builder}:build", "--out", package,
        "--report", tmp_path,
    )  # fmt: skip
    manifest = parse_manifest((package / "model.toml").read_bytes())
    try_model(manifest, {f.path: (package / f.path).read_bytes() for f in manifest.files})
    found = json.loads((tmp_path / "report.json").read_bytes())
    weights = 16 * 9 + 16 + 1024 * 128 + 128 + 128 * 4 + 4  # the normalization is folded in
    assert found["tried"][0]["figures"]["parameters"] == weights
    assert manifest.model_file.size < 0.30 * state_dict.stat().st_size


@pytest.mark.workstation
def test_the_graph_computes_what_the_module_computes(
    state_dict: Path, builder: Path, tmp_path: Path
) -> None:
    import torch

    from tools.quantize.family import Artifact
    from tools.quantize.onnx.export import from_state_dict
    from tools.quantize.progress import Display
    from tools.quantize.tensors.session import opened

    module = find_builder(f"{builder}:build")()[0].eval()
    x = np.random.default_rng(0).standard_normal((5, 1, 8, 8)).astype(np.float32)
    with from_state_dict(state_dict, f"{builder}:build", tmp_path / "work", Display()) as path:
        found = opened(Artifact(path.parent, {path.name: "model"}, "onnx")).run({"input": x})
    with torch.no_grad():
        np.testing.assert_allclose(found["output"], module(torch.from_numpy(x)), atol=1e-4)


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        (BUILDER.replace("128", "64"), "size mismatch"),
        (BUILDER.replace("def build", "def other"), "no such builder"),
        ("import absent_library\n", "no such builder"),
        ("def build():\n    return 1 / 0\n", "the builder raised ZeroDivisionError"),
        (BUILDER.replace("zeros(1, 1,", "zeros(1, 2,"), "cannot be exported"),
    ],
    ids=["other sizes", "no function", "cannot be imported", "fails", "another example"],
)
def test_a_builder_that_does_not_fit(
    edge_quantize: Run, state_dict: Path, builder: Path, tmp_path: Path, changed: str, says: str
) -> None:
    builder.write_text(changed)
    done = edge_quantize(
        "torch", state_dict, "--builder", f"{builder}:build", "--out", tmp_path / "package",
        status=2,
    )  # fmt: skip
    assert says in done.stderr
    assert not (tmp_path / "package").exists()


RETURNS = "return nn.Sequential(*layers), torch.zeros(1, 1, 8, 8)"


@pytest.mark.workstation
@pytest.mark.parametrize(
    ("returns", "says"),
    [
        ("return nn.Sequential(*layers)", "network.py:build: the builder returned Sequential"),
        ("return 3, torch.zeros(1)", "the builder returned (int, Tensor)"),
        ("return nn.Sequential(*layers), 8", "the builder returned (Sequential, int)"),
        ("pass", "the builder returned nothing"),
        ("len(3)", "network.py:build, line 9: the builder raised TypeError: object of type 'int'"),
        ("raise ValueError('no such size')", "line 9: the builder raised ValueError: no such size"),
        ("assert False", "line 9: the builder raised AssertionError"),
        (RETURNS.replace("8, 8", "9, 9"), "network.py:build: cannot be exported: RuntimeError"),
    ],
)
def test_a_builder_that_fails_is_named_with_its_line(
    edge_quantize: Run, state_dict: Path, builder: Path, returns: str, says: str
) -> None:
    builder.write_text(BUILDER.replace(RETURNS, returns))
    done = edge_quantize("torch", state_dict, "--builder", f"{builder}:build", status=2)
    assert says in done.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1\ny = 1 / 0\n", "network.py:build, line 2: no such builder: its file raises Zero"),
        ("def build(:\n", "network.py, line 1"),
        ("build = 3\n", 'there is no function "build"'),
    ],
)
def test_a_builders_file_that_fails_is_named_with_its_line(
    builder: Path, text: str, says: str
) -> None:
    builder.write_text(text)
    with pytest.raises(BadRequest) as refused:
        find_builder(f"{builder}:build")
    assert says in str(refused.value)


def test_a_builder_without_a_file_is_refused() -> None:
    with pytest.raises(BadRequest, match="no file is named"):
        find_builder("build")


@pytest.mark.workstation
def test_what_a_builder_reads_beside_itself_counts_and_the_same_export_resumes(
    edge_quantize: Run, state_dict: Path, builder: Path, tmp_path: Path
) -> None:
    """A builder may do anything: only what it builds tells whether it has changed."""
    slope = tmp_path / "slope.txt"
    changed = BUILDER.replace("nn.ReLU(), nn.Flatten(),", "nn.LeakyReLU(slope()), nn.Flatten(),")
    builder.write_text(
        f"{changed}\ndef slope():\n    return float(__import__('pathlib').Path({str(slope)!r}).read_text())\n"
    )
    counts = []
    for text in ("0.1", "0.1", "0.9"):
        slope.write_text(text)
        edge_quantize("torch", state_dict, "--builder", f"{builder}:build")
        works = [p for p in (tmp_path / "work").iterdir() if p.name.startswith("onnx-")]
        counts.append(len([path for path in works if path.is_dir()]))
    assert counts == [1, 1, 2]


@pytest.mark.workstation
def test_a_hugging_face_folder_becomes_a_package(edge_quantize: Run, tmp_path: Path) -> None:
    import torch
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(1)
    config = ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32], depths=[1, 1], layer_type="basic", num_labels=3
    )
    source = tmp_path / "resnet"
    ResNetForImageClassification(config).save_pretrained(source)
    random = np.random.default_rng(0)
    np.savez(tmp_path / "set.npz", inputs=random.random((40, 3, 64, 64), np.float32))
    done = edge_quantize(
        "onnx", source, "--evaluate", tmp_path / "set.npz", "--out", tmp_path / "package"
    )
    told = [done.stderr.index(t) for t in ("to export it", "Exporting to ONNX", "Reading")]
    assert told == sorted(told)
    manifest = parse_manifest((tmp_path / "package" / "model.toml").read_bytes())
    assert manifest.inputs[0].name == "pixel_values"


def test_a_pickled_state_dict_is_refused_before_torch_is_needed(
    edge_quantize: Run, tmp_path: Path, builder: Path
) -> None:
    (tmp_path / "network.pt").write_bytes(b"PK\x03\x04")
    done = edge_quantize(
        "torch", tmp_path / "network.pt", "--builder", f"{builder}:build", status=2
    )
    assert "safetensors" in done.stderr


def test_a_name_that_is_neither_here_nor_on_a_hub(edge_quantize: Run) -> None:
    assert "no such file or folder" in edge_quantize("onnx", "nowhere.onnx", status=2).stderr
