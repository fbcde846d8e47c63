"""Calibration and evaluation have no sample in common, whatever order a set is in."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from agent.errors import BadPayload
from agent.types import TensorSpec
from tools.quantize.cli import FAMILIES, cli
from tools.quantize.onnx.command import sets
from tools.quantize.onnx.recipes import LEAST_CALIBRATION, MOST_CALIBRATION

SPEC = TensorSpec("x", "FP32", (-1, 1))


def saved(path: Path, count: int) -> Path:
    x = np.arange(count, dtype=np.float32)[:, None]
    np.savez(path, x=x, labels=np.arange(count) % 4)
    return path


def test_a_quarter_is_set_aside_and_every_class_stays_in_both(tmp_path: Path) -> None:
    evaluation, calibration = sets([SPEC], saved(tmp_path / "set.npz", 400), None)
    one, other = (set(s.inputs["x"].ravel().tolist()) for s in (evaluation, calibration))
    assert not one & other
    assert len(one | other) == 400
    assert len(other) == 100
    for samples in (evaluation, calibration):
        assert samples.labels is not None
        assert set(samples.labels.tolist()) == {0, 1, 2, 3}


def test_a_calibration_set_of_its_own_leaves_the_evaluation_whole(tmp_path: Path) -> None:
    evaluation, calibration = sets(
        [SPEC], saved(tmp_path / "set.npz", 40), saved(tmp_path / "other.npz", 2000)
    )
    assert len(evaluation) == 40
    assert len(calibration) == MOST_CALIBRATION


def test_exactly_enough_to_calibrate_and_one_too_few(tmp_path: Path) -> None:
    enough = saved(tmp_path / "enough.npz", LEAST_CALIBRATION)
    assert len(sets([SPEC], None, enough)[1]) == LEAST_CALIBRATION
    with pytest.raises(BadPayload, match="at least 8"):
        sets([SPEC], None, saved(tmp_path / "few.npz", LEAST_CALIBRATION - 1))
    with pytest.raises(BadPayload, match="a quarter of"):
        sets([SPEC], saved(tmp_path / "small.npz", 20), None)


def test_without_a_set_both_are_made_up_and_different() -> None:
    evaluation, calibration = sets([SPEC], None, None)
    assert "no recordings" in evaluation.about
    assert not np.array_equal(evaluation.inputs["x"], calibration.inputs["x"])


@pytest.mark.parametrize("family", list(FAMILIES))
def test_the_help_says_what_a_set_is_where_it_refers_to(family: str) -> None:
    text = CliRunner().invoke(cli, [family, "--help"]).output
    above, option = text.split("--evaluate PATH", 1)
    if family in ("onnx", "torch", "tflite"):
        assert "npz, csv or folder" in option
        assert "see above" not in text
    else:
        assert "see above" in " ".join(option.split())
        assert "--evaluate" in above
