"""Steps are made once, appear whole, and do not pile up."""

import os
from pathlib import Path

import pytest

from tools.quantize.family import Artifact
from tools.quantize.work import HUB, MOST_KEPT, WorkDirectory


def made(place: Path) -> Artifact:
    (place / "model.onnx").write_bytes(b"model")
    return Artifact(place, {"model.onnx": "model"}, "onnx", {"a": 1}, ["a note"])


def failing(place: Path) -> Artifact:
    (place / "half").write_bytes(b"half a model")
    raise RuntimeError("power cut")


def test_a_step_is_made_once_and_kept_as_it_was(tmp_path: Path) -> None:
    one = WorkDirectory(tmp_path, "key").artifact("step", made)
    again = WorkDirectory(tmp_path, "key").artifact("step", failing)
    assert again == one
    assert again.model.read_bytes() == b"model"
    assert (again.parameters, list(again.notes)) == ({"a": 1}, ["a note"])


def test_a_step_that_failed_is_not_there_and_is_made_anew(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path, "key")
    with pytest.raises(RuntimeError):
        work.artifact("step", failing)
    assert sorted(p.name for p in work.artifact("step", made).directory.iterdir()) == [
        "artifact.json",
        "model.onnx",
    ]


def test_values_are_kept_too(tmp_path: Path) -> None:
    work = WorkDirectory(tmp_path, "key")
    assert work.value("scores", list[float], lambda: [0.5]) == [0.5]
    assert work.value("scores", list[float], list) == [0.5]
    assert work.emptied().value("scores", list[float], list) == []


def test_the_oldest_work_goes_and_downloads_stay(tmp_path: Path) -> None:
    (tmp_path / HUB).mkdir()
    os.utime(tmp_path / HUB, (0, 0))
    for number in range(MOST_KEPT):
        path = WorkDirectory(tmp_path, f"work-{number:02}").path
        os.utime(path, (1000 + number, 1000 + number))
    assert (tmp_path / "work-00").exists()
    WorkDirectory(tmp_path, "another")
    assert not (tmp_path / "work-00").exists()
    assert (tmp_path / "work-01").exists()
    assert (tmp_path / HUB).exists()
