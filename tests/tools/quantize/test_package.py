"""A package is whole or not there, and its manifest is what went in."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import AgentError, BadManifest, BadModel, GoldenFailed
from agent.trust.manifest import parse_manifest
from agent.types import TensorSpec
from tests.tools.quantize.conftest import CLASSES, INPUTS
from tools.quantize import toml
from tools.quantize.arrays import archived
from tools.quantize.family import Artifact, Description, GoldenInput, Score
from tools.quantize.package import Draft, Identity, write_package

SPECS = (TensorSpec("x", "FP32", (-1, INPUTS)), TensorSpec("y", "FP32", (-1, CLASSES)))


@pytest.fixture
def draft(classifier: Path) -> Draft:
    case = GoldenInput("zeros", {"x": np.zeros((1, INPUTS), np.float32)}, 0.01)
    return Draft(
        Identity("tiny", "1.0.0", "Apache-2.0", "A test"),
        Artifact(classifier.parent, {classifier.name: "model"}, "onnx"),
        Description("tensor", SPECS[:1], SPECS[1:], {"threshold": 0.5}, [case]),
        [Score("accuracy", 0.5), Score("accuracy", 0.25, "night")],
        documents={"card.txt": b"read me"},
    )


def test_what_goes_in_is_in_the_manifest(draft: Draft, tmp_path: Path) -> None:
    manifest = write_package(tmp_path / "package", draft)
    assert manifest == parse_manifest((tmp_path / "package" / "model.toml").read_bytes())
    assert {f.role for f in manifest.files} == {"model", "golden", "doc"}
    assert [(m.slice, m.value) for m in manifest.evaluation.metrics] == [
        ("all", 0.5),
        ("night", 0.25),
    ]
    assert manifest.parameters == {"threshold": 0.5}


def test_a_recipe_in_the_packages_place_stays(draft: Draft, tmp_path: Path) -> None:
    place = tmp_path / "package"
    (place / "recipe").mkdir(parents=True)
    (place / "recipe" / "build.py").write_text("how")
    write_package(place, draft)
    write_package(place, replace(draft, identity=Identity("tiny", "2.0.0", "Apache-2.0")))
    assert (place / "recipe" / "build.py").read_text() == "how"
    assert parse_manifest((place / "model.toml").read_bytes()).version == "2.0.0"
    assert {path.name for path in tmp_path.iterdir()} == {"package", "classifier.onnx"}


def test_the_same_draft_gives_the_same_bytes(draft: Draft, tmp_path: Path) -> None:
    for name in ("one", "other"):
        write_package(tmp_path / name, draft)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize(
    "spoilt",
    [
        {"identity": Identity("No Name!", "1.0.0", "")},
        {"identity": Identity("tiny", "one", "")},
        {"description": Description("tensor", SPECS[1:], SPECS[:1])},
        {"description": Description("tensor", SPECS[:1], SPECS[1:], {"when": object})},
    ],
    ids=["name", "version", "tensors", "parameter"],
)
def test_a_failure_leaves_what_was_there(draft: Draft, tmp_path: Path, spoilt: dict) -> None:
    package = tmp_path / "package"
    write_package(package, draft)
    before = {path.name: path.read_bytes() for path in package.iterdir()}
    with pytest.raises((AgentError, TypeError)):
        write_package(package, replace(draft, **spoilt))
    assert {path.name: path.read_bytes() for path in package.iterdir()} == before
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_the_artifact_names_and_lacks_leaves_nothing(
    draft: Draft, tmp_path: Path
) -> None:
    artifact = replace(draft.artifact, files={**draft.artifact.files, "absent.json": "data"})
    with pytest.raises(AgentError):
        write_package(tmp_path / "package", replace(draft, artifact=artifact))
    assert [p for p in tmp_path.iterdir() if "package" in p.name] == []


def test_a_case_that_comes_out_otherwise_is_no_golden_case(draft: Draft, tmp_path: Path) -> None:
    nan = GoldenInput("nan", {"x": np.zeros((1, INPUTS), np.float32)}, -1.0)
    description = replace(draft.description, golden=[nan])
    with pytest.raises((GoldenFailed, BadManifest)):
        write_package(tmp_path / "package", replace(draft, description=description))
    assert not (tmp_path / "package").exists()


def test_a_package_with_files_of_somebody_beside_it_is_not_replaced(
    draft: Draft, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    write_package(package, draft)
    write_package(package, draft)
    (package / "notes").mkdir()
    (package / "notes" / "pumps.txt").write_text("years of work")
    with pytest.raises(BadModel, match="no part of a package"):
        write_package(package, draft)
    assert (package / "notes" / "pumps.txt").read_text() == "years of work"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PLAIN = st.recursive(
    TEXT
    | st.integers(-(2**62), 2**62)
    | st.booleans()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(TEXT, PLAIN, max_size=4))
def test_whatever_is_written_is_read_back(parameters: dict) -> None:
    import tomllib

    assert tomllib.loads(f"p = {toml.value(parameters)}")["p"] == parameters


def test_archives_hold_what_numpy_reads(tmp_path: Path) -> None:
    arrays = {"a/in/file": np.arange(6, dtype=np.int8).reshape(2, 3), "b": np.float32(1.5)}
    (tmp_path / "a.npz").write_bytes(archived(arrays))
    with np.load(tmp_path / "a.npz") as found:
        for name, array in arrays.items():
            np.testing.assert_array_equal(found[name], array)
