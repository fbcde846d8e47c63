"""The shipped anomaly package: what the manifest says is what the file does."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agent.engines import catalog
from agent.engines.base import EngineOptions, Session
from agent.trust.manifest import Manifest, parse_manifest

PACKAGE = Path(__file__).parents[2] / "models" / "pump-anomaly"
LARGEST = 1_000_000  # bytes


@cache
def shipped() -> tuple[Session, Manifest]:
    manifest = parse_manifest((PACKAGE / "model.toml").read_bytes())
    data = (PACKAGE / manifest.model_file.path).read_bytes()
    return catalog.load_session(manifest.engine, data, EngineOptions()), manifest


def golden() -> dict[str, np.ndarray]:
    with np.load(PACKAGE / "golden.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def test_every_file_is_the_one_that_the_manifest_names() -> None:
    for entry in shipped()[1].files:
        data = (PACKAGE / entry.path).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (entry.size, entry.sha256)


def test_the_package_is_small() -> None:
    assert sum(entry.size for entry in shipped()[1].files) < LARGEST


def test_the_tensors_are_those_of_the_file_and_bytes() -> None:
    session, manifest = shipped()
    for declared, found in (
        *zip(manifest.inputs, session.inputs, strict=True),
        *zip(manifest.outputs, session.outputs, strict=True),
    ):
        assert (declared.name, declared.dtype, declared.shape) == (
            found.name,
            "INT8",
            found.shape,
        )
        assert declared.quantization is not None


@pytest.mark.parametrize("case", ["healthy", "faulty"])
def test_the_golden_cases_come_out_as_recorded(case: str) -> None:
    session, manifest = shipped()
    arrays = golden()
    tolerance = next(entry.tolerance for entry in manifest.golden if entry.name == case)
    found = session.run({"window": arrays[f"{case}/in/window"]})["evidence"]
    difference = found.astype(int) - arrays[f"{case}/out/evidence"].astype(int)
    assert np.abs(difference).max() <= tolerance


def test_the_golden_cases_stand_on_both_sides_of_the_threshold() -> None:
    _, manifest = shipped()
    quantization = manifest.outputs[0].quantization
    assert quantization is not None
    threshold = manifest.parameters["threshold"] / quantization.scale + quantization.zero_point
    arrays = golden()
    assert (arrays["healthy/out/evidence"][:, 0] < threshold).all()
    assert (arrays["faulty/out/evidence"][:, 0] > threshold).all()


def test_a_window_is_judged_by_itself_whatever_it_comes_with() -> None:
    session, _ = shipped()
    windows = golden()["faulty/in/window"]
    together = session.run({"window": windows})["evidence"]
    alone = [session.run({"window": windows[i : i + 1]})["evidence"] for i in range(len(windows))]
    assert np.abs(together.astype(int) - np.concatenate(alone).astype(int)).max() <= 1


def test_the_card_says_what_was_measured_and_where_it_ends() -> None:
    card = shipped()[1].evaluation
    assert card is not None
    assert card.data
    assert card.limits
    assert {metric.slice for metric in card.metrics} >= {
        "cavitation",
        "closing valve",
        "bearing wear",
        "healthy",
    }
