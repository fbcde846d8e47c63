"""Evaluation sets in each documented form; whatever else a file holds is refused with its name."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import BadPayload
from agent.types import Quantization, TensorSpec
from tools.quantize.tensors.samples import MAX_SET_BYTES, Samples, generated, read_samples
from tools.quantize.tensors.session import real_values

SPEC = TensorSpec("x", "FP32", (-1, 2, 2))
STORED = TensorSpec("x", "INT8", (1, 4), quantization=Quantization(0.5, 1))

shared_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_a_table_with_labels_and_slices(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a,b,c,d,label,slice\n1,2,3,4,0,day\n5,6,7,8,1,night\n")
    found = read_samples(tmp_path / "set.csv", [SPEC])
    np.testing.assert_array_equal(found.inputs["x"][1], [[5, 6], [7, 8]])
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert list(found.slices) == ["day", "night"]


def test_a_table_with_targets(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a,b,c,d,target\n1,2,3,4,0.5\n")
    found = read_samples(tmp_path / "set.csv", [SPEC])
    assert found.targets is not None
    assert found.targets.tolist() == [0.5]


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    for name in ("ok", "broken"):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "1.npy", np.full((2, 2), len(name), np.float32))
    found = read_samples(tmp_path, [SPEC])
    assert list(found.slices) == ["broken", "ok"]
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]
    assert found.inputs["x"][:, 0, 0].tolist() == [6, 2]


@pytest.mark.parametrize("head", ["", "file,class\n"])
@pytest.mark.parametrize("classes", ["", "12,"])
def test_files_beside_a_list_of_labels(tmp_path: Path, head: str, classes: str) -> None:
    (tmp_path / "one.bin").write_bytes(bytes([1, 3, 5, 255]))
    (tmp_path / "y_labels.csv").write_text(f"{head}one.bin,{classes}7\n")
    found = read_samples(tmp_path, [STORED])
    assert found.labels is not None
    assert found.labels.tolist() == [7]
    real = real_values(found, [STORED])
    assert real.inputs["x"].tolist() == [[0.0, 1.0, 2.0, -1.0]]


def test_real_values_for_a_quantized_input_stay_real(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.zeros((3, 4), np.float32))
    found = real_values(read_samples(tmp_path / "set.npz", [STORED]), [STORED])
    assert found.inputs["x"].dtype == np.float32


@pytest.mark.parametrize(
    "content",
    ["", "a,b,c,d\n", "a,b,c,d\n1,2,3\n", "a,b,c\n1,2,3\n", "a,b,c,d\n1,2,3,x\n",
     "a,b,c,d,label\n1,2,3,4,1.5\n", "a,b,c,d\n1,2,3,nan\n"],
)  # fmt: skip
def test_a_table_that_does_not_fit(tmp_path: Path, content: str) -> None:
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(BadPayload, match=r"set\.csv"):
        read_samples(tmp_path / "set.csv", [SPEC])


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "set.csv: the first line names no column"),
        ("a,b,c,d\n", "set.csv: there are no samples"),
        ("a,b,c,d\n1,2,3,4\n\n1,2,3\n", "set.csv, line 4: 3 values for 4 columns"),
        ("a,b,c,d\n1,2,3,4,5\n", "set.csv, line 2: 5 values for 4 columns"),
        ("a,b,c,d\n1,2,3,4\n1,x,3,4\n", 'set.csv, line 3, column "b": no number: "x"'),
        ("a,b,c,d,label\n1,2,3,4,1.5\n", 'line 2, column "label": no integer: "1.5"'),
        (f"a,b,c,d,label\n1,2,3,4,{10**30}\n", 'column "label": no integer'),
        (f"a,b,c,d\n1,2,3,{'4' * 200_000}\n", "cannot be read as a table"),
        ("a,b,c,d,target\n1,2,3,4,nan\n", "targets: holds values that are not finite"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_with_its_line(
    tmp_path: Path, content: str, says: str
) -> None:
    (tmp_path / "set.csv").write_text(content)
    with pytest.raises(BadPayload) as refused:
        read_samples(tmp_path / "set.csv", [SPEC])
    assert says in str(refused.value)


def test_lines_without_anything_are_no_samples(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a,b,c,d\n\n1,2,3,4\n\n")
    assert len(read_samples(tmp_path / "set.csv", [SPEC])) == 1


def test_a_set_for_one_input_does_not_do_for_two(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text("a\n1\n")
    other = TensorSpec("y", "FP32", (-1, 1))
    with pytest.raises(BadPayload, match="an array for each"):
        read_samples(tmp_path / "set.csv", [SPEC, other])


def test_a_file_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(b"123")
    (tmp_path / "labels.csv").write_text("one.bin,0\n")
    with pytest.raises(BadPayload, match=r"one\.bin: 3 elements, 4 are needed"):
        read_samples(tmp_path, [STORED])


def test_an_array_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(BadPayload):
        read_samples(tmp_path / "set.npz", [SPEC])


def test_a_set_larger_than_allowed_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "set.csv").open("wb") as file:
        file.truncate(MAX_SET_BYTES + 1)
    with pytest.raises(BadPayload, match="are allowed"):
        read_samples(tmp_path / "set.csv", [SPEC])


@shared_folder
@given(st.sampled_from([".csv", ".npz"]), st.binary(max_size=300))
def test_any_bytes_are_a_set_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"set{suffix}"
    path.write_bytes(content)
    try:
        found = read_samples(path, [SPEC])
    except BadPayload:
        return
    assert len(found) > 0


@shared_folder
@given(st.text(alphabet='0123456789.,-e\n"label slice', max_size=200))
def test_any_table_is_a_set_or_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "set.csv").write_text(f"a,b,c,d,label\n{content}")
    try:
        found = read_samples(tmp_path / "set.csv", [SPEC])
    except BadPayload:
        return
    assert np.isfinite(found.inputs["x"]).all()


@pytest.mark.parametrize(
    "spec",
    [SPEC, STORED, TensorSpec("i", "INT64", (-1, -1)), TensorSpec("p", "UINT8", (1, 32, 32, 3)),
     TensorSpec("b", "BOOL", (-1, 5)), TensorSpec("h", "FP16", (-1, 3))],
    ids=lambda spec: spec.dtype,
)  # fmt: skip
def test_made_up_samples_fit_and_are_the_same_each_time(spec: TensorSpec) -> None:
    one, other = generated([spec], 10, seed=3), generated([spec], 10, seed=3)
    np.testing.assert_array_equal(one.inputs[spec.name], other.inputs[spec.name])
    assert one.inputs[spec.name].shape[0] == 10
    assert "no recordings" in one.about


def test_a_digest_tells_sets_apart() -> None:
    x = np.arange(4.0)
    sets = [
        Samples({"x": x}),
        Samples({"y": x}),
        Samples({"x": x}, labels=np.arange(4)),
        Samples({"x": x}, targets=x),
        Samples({"x": x.reshape(2, 2)}),
        Samples({"x": x}, slices=["a"] * 4),
    ]
    assert len({samples.digest() for samples in sets}) == len(sets)
