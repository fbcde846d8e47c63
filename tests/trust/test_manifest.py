"""The manifest: what it accepts, and that nothing else gets through or gets out."""

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent.errors import BadManifest
from agent.trust.manifest import MAX_BYTES, Manifest, is_safe_path, parse_manifest

SAMPLES = Path(__file__).parent.parent / "formats" / "manifest"
SAMPLE = (SAMPLES / "format-1.toml").read_text()


def parse(text: str) -> Manifest:
    return parse_manifest(text.encode())


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.toml")), ids=lambda p: p.name)
def test_every_released_format_is_read(path: Path) -> None:
    assert parse_manifest(path.read_bytes()).name == "sample"


def test_reads_what_is_written() -> None:
    manifest = parse(SAMPLE)
    assert str(manifest.ref) == "sample 1.2.3-rc.1+build.5"
    assert manifest.model_file.path == "nets/model.onnx"
    assert manifest.inputs[0].shape == (-1, 64)
    assert manifest.inputs[0].quantization is not None
    assert manifest.inputs[0].quantization.scale == 0.0625
    assert manifest.outputs[0].quantization is None
    assert manifest.parameters["bands"] == [1, 2.5, "three", {"deep": True}]
    assert manifest.evaluation.metrics[0].slice == "all"
    assert manifest.golden[0].tolerance == 1.0
    assert manifest.resources.threads == 2


WRONG = [
    ("format = 1", "format = 2", "format", "newer"),
    ("format = 1", 'format = "1"', "format", "format = 1"),
    ("format = 1", "format = true", "format", "format = 1"),
    ("format = 1", "", "format", "format = 1"),
    ('name = "sample"', 'name = "Sample"', "name", ""),
    ('name = "sample"', 'name = "a/../b"', "name", ""),
    ('name = "sample"', f'name = "{"a" * 64}"', "name", ""),
    ('name = "sample"', 'name = "sample\\n"', "name", ""),
    ('"1.2.3-rc.1+build.5"', '"1.2"', "version", "semantic"),
    ('"1.2.3-rc.1+build.5"', '"01.2.3"', "version", "semantic"),
    ('"1.2.3-rc.1+build.5"', '"1.2.3/.."', "version", "semantic"),
    ('license = "Apache-2.0"', 'colour = "red"\nlicense = ""', "colour", "unknown key"),
    ('role = "model"', 'role = "model"\nmode = 7', "files[0].mode", "unknown key"),
    ('role = "model"', 'role = "doc"', "files", "exactly one"),
    ('role = "golden"', 'role = "model"', "files", "exactly one"),
    ('path = "nets/model.onnx"', 'path = "/etc/passwd"', "files[0].path", ""),
    ('path = "nets/model.onnx"', 'path = "../model.onnx"', "files[0].path", ""),
    ('path = "nets/model.onnx"', 'path = "nets//model.onnx"', "files[0].path", "inside"),
    ('path = "nets/model.onnx"', 'path = "model.toml"', "files[0].path", "itself"),
    ('path = "nets/model.onnx"', 'path = "golden.npz"', "files", "twice"),
    ("size = 12345", "size = 0", "files[0].size", ""),
    ("size = 12345", "size = -1", "files[0].size", ""),
    ("size = 12345", "size = 1e4", "files[0].size", ""),
    (f'sha256 = "{"a" * 64}"', f'sha256 = "{"A" * 64}"', "files[0].sha256", ""),
    (f'sha256 = "{"a" * 64}"', 'sha256 = "aa"', "files[0].sha256", ""),
    ('dtype = "INT8"', 'dtype = "INT4"', "inputs[0].dtype", ""),
    ("shape = [-1, 64]", "shape = [0, 64]", "inputs[0].shape", "positive"),
    ("shape = [-1, 64]", "shape = [-2, 64]", "inputs[0].shape[0]", ""),
    ("shape = [-1, 64]", "shape = [65536, 65536]", "inputs[0].shape", "elements"),
    ("shape = [-1, 64]", "shape = [1,1,1,1,1,1,1,1,1]", "inputs[0].shape", ""),
    ("scale = 0.0625", "scale = 0.0", "inputs[0].quantization.scale", ""),
    ("scale = 0.0625", "scale = inf", "inputs[0].quantization.scale", "finite"),
    ("scale = 0.0625", "scale = nan", "inputs[0].quantization.scale", ""),
    ("tolerance = 1.0", "tolerance = -1.0", "golden[0].tolerance", ""),
    ("tolerance = 1.0", "tolerance = inf", "golden[0].tolerance", "finite"),
    ('file = "golden.npz"', 'file = "nets/model.onnx"', "golden[0].file", "golden"),
    ("threads = 2", "threads = 0", "resources.threads", ""),
    ("threads = 2", "threads = 65", "resources.threads", ""),
    ('dtype = "INT8"', 'values = "some"\ndtype = "INT8"', "inputs[0].values", ""),
    ('dtype = "INT8"', 'values = "any"\ndtype = "INT8"', "inputs[0].values", "stands for NaN"),
    ('dtype = "FP32"', 'values = "any"\ndtype = "FP32"', "outputs[0].values", "only an input"),
    (
        "quantization = { scale = 0.0625, zero_point = 0 }",
        'values = "finite"',
        "inputs[0].values",
        "neither",
    ),
    ("value = 0.8", "value = nan", "evaluation.metrics[0].value", "finite"),
    ("window = 64", "window = nan", "parameters.window", "finite"),
    ("window = 64", "window = 2026-01-01", "parameters.window", "date"),
]


@pytest.mark.parametrize(("old", "new", "field", "message"), WRONG)
def test_what_is_wrong_is_refused_by_its_field(
    old: str, new: str, field: str, message: str
) -> None:
    assert SAMPLE.count(old) >= 1
    with pytest.raises(BadManifest) as caught:
        parse(SAMPLE.replace(old, new, 1))
    assert message in caught.value.message
    assert caught.value.where == f"model.toml: {field}"


def test_an_input_says_which_values_it_takes() -> None:
    said = parse(SAMPLE.replace('dtype = "INT8"', 'dtype = "INT8"\nvalues = "finite"', 1))
    assert (said.inputs[0].values, parse(SAMPLE).inputs[0].values) == ("finite", None)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xff\xfe", b"\0" * 1000, b"format = ", b"a" * (MAX_BYTES + 1),
        b"format = 1\nx = " + b"[" * 100_000, b"format = 1\n[" + b"a." * 60_000 + b"a]",
        b"format = 1\nparameters = " + b"{a=" * 50_000 + b"1" + b"}" * 50_000,
    ],
    ids=["empty", "not utf-8", "zeros", "cut", "too large", "deep list", "deep table", "deep inline"],
)  # fmt: skip
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadManifest):
        parse_manifest(data)


@given(st.binary(max_size=200))
@example(b"format = 1")
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(BadManifest):
        parse_manifest(data)


@given(st.data())
def test_a_damaged_manifest_is_refused_or_still_sound(data: st.DataObject) -> None:
    """One byte changed anywhere: an error of ours, or a manifest that keeps every rule."""
    raw = bytearray(SAMPLE.encode())
    raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        manifest = parse_manifest(bytes(raw))
    except BadManifest:
        return
    assert all(is_safe_path(file.path) and file.size > 0 for file in manifest.files)
    assert sum(file.role == "model" for file in manifest.files) == 1
    assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,62}", manifest.name)


@given(st.text(max_size=30))
def test_a_safe_path_stays_inside(path: str) -> None:
    if is_safe_path(path):
        assert (Path("/package") / path).resolve().is_relative_to("/package")
