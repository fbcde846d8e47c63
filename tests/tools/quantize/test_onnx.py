"""A float ONNX model becomes a package that the agent accepts, or an error that says what to do."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.registry.trial import try_model
from agent.trust.manifest import Manifest, parse_manifest
from tests.tools.quantize.conftest import CLASSES, INPUTS, Run, model_of, perceptron
from tools.quantize.family import Artifact
from tools.quantize.onnx.recipes import Int4Weights


def opened(package: Path) -> Manifest:
    """A package's manifest, after the agent has tried it as before an activation."""
    manifest = parse_manifest((package / "model.toml").read_bytes())
    try_model(manifest, {f.path: (package / f.path).read_bytes() for f in manifest.files})
    return manifest


def nothing_left(directory: Path) -> bool:
    return not [p for p in directory.iterdir() if "package" in p.name]


@pytest.mark.parametrize(
    ("recipe", "share"),
    [
        ("int8-static-minmax", 0.30),
        ("int8-static-entropy", 0.30),
        ("int8-static-percentile", 0.30),
        ("int8-dynamic", 0.30),
        ("int4-weights", 0.20),
    ],
)
def test_each_recipe_makes_a_small_package_that_runs(
    edge_quantize: Run, classifier: Path, labelled: Path, tmp_path: Path, recipe: str, share: float
) -> None:
    package, report = tmp_path / "package", tmp_path / "report"
    edge_quantize(
        "onnx", classifier, "--recipe", recipe, "--evaluate", labelled, "--out", package,
        "--report", report, "--max-drop", "10%", "--name", "tiny", "--version", "2.1.0",
    )  # fmt: skip
    manifest = opened(package)
    assert str(manifest.ref) == "tiny 2.1.0"
    assert manifest.model_file.size < share * classifier.stat().st_size
    found = json.loads((report / "report.json").read_bytes())
    assert found["chosen"] == recipe
    assert {s["slice"] for s in found["tried"][0]["scores"]} == {"all", "day", "night"}
    assert found["original"]["scores"][0]["value"] == 1.0
    assert found["tried"][0]["layers"]
    weights = INPUTS * 256 + 256 * 256 + 256 * CLASSES  # scales and zero points are none
    for outcome in (found["original"], found["tried"][0]):
        assert outcome["figures"]["parameters"] == weights


def test_auto_keeps_the_smallest_that_passes_and_says_why_the_others_did_not(
    edge_quantize: Run, classifier: Path, labelled: Path, tmp_path: Path
) -> None:
    report = tmp_path / "report"
    edge_quantize(
        "onnx", classifier, "--auto", "--evaluate", labelled, "--out", tmp_path / "package",
        "--report", report, "--max-drop", "4%", "--max-slice-drop", "20%",
    )  # fmt: skip
    found = json.loads((report / "report.json").read_bytes())
    assert (found["max_drop"], found["max_slice_drop"]) == ("4%", "20%")
    *rejected, chosen = found["tried"]
    assert chosen["recipe"] == found["chosen"]
    assert all(outcome["rejected"] for outcome in rejected)
    opened(tmp_path / "package")


def test_what_lost_too_much_is_not_packaged_and_the_report_says_so(
    edge_quantize: Run, classifier: Path, labelled: Path, tmp_path: Path
) -> None:
    done = edge_quantize(
        "onnx", classifier, "--recipe", "int4-weights", "--evaluate", labelled,
        "--out", tmp_path / "package", "--report", tmp_path / "report", "--max-drop", "0.001",
        status=3,
    )  # fmt: skip
    assert "[model.worse]" in done.stderr
    assert "accuracy" in done.stderr
    assert nothing_left(tmp_path)
    assert "Nothing was good enough" in (tmp_path / "report" / "report.html").read_text()


@pytest.mark.parametrize("recipe", ["int8-static-minmax", "int8-dynamic"])
def test_no_two_products_overflow_16_bits_where_vnni_is_missing(
    edge_quantize: Run, classifier: Path, tmp_path: Path, recipe: str
) -> None:
    edge_quantize("onnx", classifier, "--recipe", recipe, "--out", tmp_path / "package")
    model = onnx.load_model(str(tmp_path / "package" / "model.onnx"))
    int8 = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    largest = max(np.abs(numpy_helper.to_array(t).astype(int)).max() for t in int8)
    assert 2 * 255 * largest < 2**15


@pytest.mark.parametrize(("opset", "packed"), [(17, False), (21, True)])
def test_tables_are_packed_in_4_bits_where_onnx_has_such_tensors(
    tmp_path: Path, opset: int, packed: bool
) -> None:
    ids, out = tmp_path / "table.onnx", tmp_path / "small.onnx"
    onnx.save_model(table(opset), str(ids))
    Int4Weights().quantize(ids, out, Artifact(tmp_path, {}, "onnx"))
    operators = {node.op_type for node in onnx.load_model(str(out)).graph.node}
    assert operators == {"MatMulNBits", "GatherBlockQuantized" if packed else "Gather"}
    given = {"ids": np.arange(20)}
    before, after = (
        load_session("onnx", path.read_bytes(), EngineOptions()).run(given)["y"]
        for path in (ids, out)
    )
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.98


def table(opset: int) -> onnx.ModelProto:
    """Rows of a table through a matrix."""
    rng = np.random.default_rng(1)
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape, np.float32), name)
        for name, shape in (("table", (500, 64)), ("matrix", (64, 300)))
    ]
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("MatMul", ["rows", "matrix"], ["y"]),
    ]
    given = helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"])
    found = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 300])
    graph = helper.make_graph(nodes, "table", [given], [found], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_the_layer_that_hurts_is_blamed_and_spared(tmp_path: Path, edge_quantize: Run) -> None:
    """One huge weight takes the whole range of its layer, which the others then share."""
    source, report = tmp_path / "hard.onnx", tmp_path / "report"
    onnx.save_model(perceptron(hidden=100, hard=True), str(source))
    edge_quantize(
        "onnx", source, "--auto", "--per-tensor", "--report", report, "--max-drop", "0.01",
        "--metric", "cosine similarity to the float model", status=None,  # it may be slower
    )  # fmt: skip
    tried = json.loads((report / "report.json").read_bytes())["tried"]
    first, milder = (o for o in tried if o["recipe"].startswith("int8-static-minmax"))
    assert first["layers"][0]["name"] == "layer1"
    assert "lost more than allowed" in first["rejected"]
    assert milder["notes"] == ["left in float: layer1", "one scale a tensor"]
    assert milder["scores"][0]["value"] > first["scores"][0]["value"]


def test_an_interrupted_run_resumes_with_what_was_built(
    edge_quantize: Run, classifier: Path, tmp_path: Path
) -> None:
    edge_quantize("onnx", classifier)
    (kept,) = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    built = kept / "int8-static-minmax" / "model.onnx"
    before = built.stat().st_mtime_ns
    (kept / "int8-static-minmax.scores.json").unlink()  # as if it had been killed while evaluating
    (kept / "int8-dynamic.new").mkdir()  # and a half-built step lay around
    edge_quantize("onnx", classifier, "--recipe", "int8-dynamic")
    edge_quantize("onnx", classifier)
    assert built.stat().st_mtime_ns == before


def test_a_run_that_is_killed_leaves_no_package_and_is_finished_by_the_next(
    edge_quantize: Run, classifier: Path, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    arguments = ["onnx", str(classifier), "--auto", "--out", str(package), "--rounds", "1000"]
    command = [sys.executable, "-m", "tools.quantize", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith("Timing"):
                running.kill()
                break
    assert nothing_left(tmp_path)
    done = edge_quantize("onnx", classifier, "--auto", "--out", package, status=None)
    assert "Timing" in done.stderr
    (kept,) = (path for path in (tmp_path / "work").iterdir() if path.is_dir())
    assert not list(kept.glob("*.new"))


def test_weights_beside_the_graph_are_taken_in(
    edge_quantize: Run, labelled: Path, tmp_path: Path
) -> None:
    source = tmp_path / "folder" / "model.onnx"
    source.parent.mkdir()
    onnx.save_model(
        perceptron(), str(source), save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    edge_quantize("onnx", source.parent, "--evaluate", labelled, "--out", tmp_path / "package")
    assert [f.role for f in opened(tmp_path / "package").files] == ["model", "golden"]


def test_other_weights_beside_the_same_graph_are_another_model(
    edge_quantize: Run, labelled: Path, tmp_path: Path
) -> None:
    source, report = tmp_path / "folder" / "model.onnx", tmp_path / "report"
    source.parent.mkdir()
    onnx.save_model(
        perceptron(), str(source), save_as_external_data=True, location="weights.bin",
        size_threshold=0,
    )  # fmt: skip
    values = []
    for _ in range(2):
        edge_quantize("onnx", source, "--evaluate", labelled, "--report", report)
        found = json.loads((report / "report.json").read_bytes())
        values.append(found["original"]["scores"][0]["value"])
        weights = source.with_name("weights.bin")
        weights.write_bytes(bytes(weights.stat().st_size))
    assert values[0] == 1.0
    assert values[1] < 0.9  # not those of the first weights


# Bad input: what is wrong and what to do, and nothing half-written


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": np.zeros((40, INPUTS + 1), np.float32)}, f"shape [{INPUTS}] are needed"),
        ({"x": np.zeros((40, INPUTS), np.int32)}, "the model takes FP32, the set holds INT32"),
        ({"x": np.zeros((1, INPUTS), np.float32)}, "at least 8 are needed"),
        ({"x": np.full((40, INPUTS), np.nan, np.float32)}, "not finite"),
        ({"z": np.zeros((40, INPUTS), np.float32)}, 'no array "x"'),
        (
            {"x": np.zeros((40, INPUTS), np.float32), "labels": np.zeros(39, int)},
            "as many of each, found 40 of x, 39 of labels",
        ),
        ({"x": np.float32(1)}, "set.npz: x: expected values for each sample"),
        ({"x": np.zeros((0, INPUTS), np.float32)}, "there are no samples"),
        (
            {"x": np.zeros((40, INPUTS), np.float32), "slices": np.full((40, 2), "a")},
            "set.npz: slices: expected a text for each sample, found <U1 of shape [40, 2]",
        ),
        (
            {"x": np.zeros((40, INPUTS), np.float32), "targets": np.full(40, "a")},
            "set.npz: targets: expected real values for each sample",
        ),
        (
            {"x": np.zeros((40, INPUTS), np.float32), "targets": np.full((40, 4), np.nan)},
            "set.npz: targets: holds values that are not finite",
        ),
    ],
    ids=[
        "shape", "dtype", "one sample", "nan", "name", "labels", "one value", "none", "slices",
        "texts", "nan targets",
    ],
)  # fmt: skip
def test_a_calibration_set_that_does_not_fit(
    edge_quantize: Run, classifier: Path, tmp_path: Path, arrays: dict[str, np.ndarray], says: str
) -> None:
    np.savez(tmp_path / "set.npz", **arrays)
    done = edge_quantize(
        "onnx", classifier, "--calibrate", tmp_path / "set.npz", "--out", tmp_path / "package",
        status=2,
    )  # fmt: skip
    assert says in done.stderr
    assert "set.npz" in done.stderr
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    ("beside", "metric", "says"),
    [
        ({"labels": 100 + np.arange(40) % 4}, "", "set.npz: labels: labels from 100 to 103"),
        ({"labels": np.arange(40) % 4 - 1}, "", "classes 0 to 3"),
        ({"targets": np.zeros((40, 3))}, "", "set.npz: targets: shape [3] for each sample"),
        ({"targets": np.zeros(40)}, "", "the output's is [4]"),  # NumPy would repeat them
        ({}, "reconstruction error", "set.npz: x: shape [64] for each sample"),
    ],
    ids=["labels of others", "no label", "width", "one for four", "no autoencoder"],
)
def test_an_evaluation_set_of_another_model_is_refused(
    edge_quantize: Run, classifier: Path, tmp_path: Path, beside: dict[str, np.ndarray],
    metric: str, says: str,
) -> None:  # fmt: skip
    np.savez(tmp_path / "set.npz", x=np.zeros((40, INPUTS), np.float32), **beside)
    done = edge_quantize(
        "onnx", classifier, "--evaluate", tmp_path / "set.npz", "--out", tmp_path / "package",
        "--metric", metric, status=2,
    )  # fmt: skip
    assert says in done.stderr
    assert "Building" not in done.stderr
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("domain", ["com.example", ""])
@pytest.mark.parametrize("inner", [False, True])
def test_an_operator_that_the_runtime_lacks_is_named_with_its_node(
    edge_quantize: Run, tmp_path: Path, domain: str, inner: bool
) -> None:
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="the_odd_one", domain=domain)
    if inner:
        node = in_a_branch(node)
    always = [numpy_helper.from_array(np.array(True), "always")] if inner else []
    model = model_of([node], always, ("n", INPUTS), ("n", CLASSES))
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    onnx.save_model(model, str(tmp_path / "odd.onnx"))
    done = edge_quantize("onnx", tmp_path / "odd.onnx", "--out", tmp_path / "package", status=2)
    assert "lacks the operator" in done.stderr
    assert "Frobnicate" in done.stderr
    assert "the_odd_one" in done.stderr
    assert nothing_left(tmp_path)


def in_a_branch(node: onnx.NodeProto) -> onnx.NodeProto:
    made = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ("n", CLASSES))
    branches = [helper.make_graph([node], name, [], [made]) for name in ("then", "else")]
    return helper.make_node(
        "If", ["always"], ["y"], then_branch=branches[0], else_branch=branches[1], name="choice"
    )


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin", "model.ckpt", "model.pkl"])
def test_a_pickle_is_refused_unread_with_the_command_that_converts_it(
    edge_quantize: Run, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    done = edge_quantize("onnx", tmp_path / name, status=2)
    assert "safetensors" in done.stderr
    assert "weights_only=True" in done.stderr
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / name).rename(folder / name)
    assert "pickle" in edge_quantize("onnx", folder, status=2).stderr
    assert not Path("ran").exists()


def test_a_folder_that_is_no_model(edge_quantize: Run, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("nothing here")
    done = edge_quantize("onnx", folder, "--out", tmp_path / "package", status=2)
    assert "the folder holds no model" in done.stderr
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\x00" * 4096, b"<html>", b"\x08\x07\x12"])
def test_a_file_that_is_no_model(edge_quantize: Run, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.onnx").write_bytes(content)
    done = edge_quantize("onnx", tmp_path / "broken.onnx", status=2)
    assert "broken.onnx" in done.stderr


def test_a_model_larger_than_memory_is_refused_before_it_is_read(
    edge_quantize: Run, tmp_path: Path
) -> None:
    """The graph is small, its weights beside it are a sparse terabyte."""
    model = perceptron()
    folder = tmp_path / "folder"
    folder.mkdir()
    onnx.save_model(
        model, str(folder / "model.onnx"), save_as_external_data=True, location="weights",
        size_threshold=0,
    )  # fmt: skip
    with (folder / "weights").open("r+b") as file:
        file.truncate(2**40)
    done = edge_quantize("onnx", folder, "--out", tmp_path / "package", status=4)
    assert "MiB of memory are needed at the peak" in done.stderr
    assert "MiB are free" in done.stderr
    assert nothing_left(tmp_path)


def test_a_place_that_is_taken_by_something_else_is_left_alone(
    edge_quantize: Run, classifier: Path, tmp_path: Path
) -> None:
    place = tmp_path / "letters"
    place.mkdir()
    (place / "to-mother.txt").write_text("Dear mother")
    done = edge_quantize("onnx", classifier, "--out", place, status=2)
    assert "holds something that is no part of a package" in done.stderr
    assert (place / "to-mother.txt").read_text() == "Dear mother"


@pytest.mark.parametrize(
    ("option", "field"), [(("--name", "My Model"), "name"), (("--version", "one"), "version")]
)
def test_a_name_that_devices_would_refuse_is_refused_before_any_work(
    edge_quantize: Run, classifier: Path, tmp_path: Path, option: tuple[str, str], field: str
) -> None:
    done = edge_quantize("onnx", classifier, "--out", tmp_path / "package", *option, status=2)
    assert f"the package: {field}" in done.stderr
    assert "Building" not in done.stderr


def test_no_recipe_is_better_than_a_wrong_one(edge_quantize: Run, tmp_path: Path) -> None:
    """A graph without matrix products cannot become int4: said, and nothing is written."""
    weight = numpy_helper.from_array(np.ones((4, 1, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1], name="only")
    model = model_of([node], [weight], (1, 1, 8, 8), (1, 4, 8, 8))
    onnx.save_model(model, str(tmp_path / "conv.onnx"))
    done = edge_quantize(
        "onnx", tmp_path / "conv.onnx", "--recipe", "int4-weights", "--out", tmp_path / "package",
        status=2,
    )  # fmt: skip
    assert "int4 is not worth it" in done.stderr
    assert nothing_left(tmp_path)


def test_the_packaged_model_decides_as_the_float_one(
    edge_quantize: Run, classifier: Path, labelled: Path, tmp_path: Path
) -> None:
    edge_quantize("onnx", classifier, "--evaluate", labelled, "--out", tmp_path / "package")
    manifest = opened(tmp_path / "package")
    data = (tmp_path / "package" / manifest.model_file.path).read_bytes()
    session = load_session("onnx", data, EngineOptions())
    with np.load(labelled) as arrays:
        found = session.run({"x": arrays["x"]})["y"].argmax(axis=1)
        assert (found == arrays["labels"]).mean() > 0.95


def test_an_opset_that_the_runtime_does_not_know_is_said_without_its_source_code(
    edge_quantize: Run, tmp_path: Path
) -> None:
    model = perceptron()
    model.opset_import[0].version = 99
    onnx.save_model(model, str(tmp_path / "newer.onnx"))
    done = edge_quantize("onnx", tmp_path / "newer.onnx", status=2)
    assert "opset 99" in done.stderr.lower()
    assert "onnxruntime_src" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--recipe", "int8", "--auto"), 2, "The recipes are: int8-static-minmax"),
        (("--recipe", "int8-dynamic", "--auto"), 2, "Give one of the two"),
        (("--report", "/proc/nowhere"), 1, "/proc/nowhere"),
        (("--evaluate", "nowhere.npz"), 2, "nowhere.npz: no such file or folder"),
    ],
)
def test_what_can_be_refused_at_once_is_refused_before_any_work(
    edge_quantize: Run, classifier: Path, arguments: tuple[str, str], status: int, says: str
) -> None:
    done = edge_quantize("onnx", classifier, *arguments, status=status)
    assert says in done.stderr
    assert "Reading" not in done.stderr
