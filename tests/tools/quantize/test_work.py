"""Steps are made once, appear whole, and do not pile up."""

import os
import threading
from pathlib import Path

import pytest

from tools.quantize.family import Artifact
from tools.quantize.locks import held_for_removal
from tools.quantize.work import (
    EXPORT,
    HUB,
    MOST_KEPT,
    WorkDirectory,
    exported,
    forget_old,
    work_key,
)


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


def aged(path: Path, number: int) -> Path:
    """A folder that was used some time ago; the greater the number, the later."""
    path.mkdir(parents=True, exist_ok=True)
    os.utime(path, (1000 + number, 1000 + number))
    return path


def test_the_oldest_work_goes_and_downloads_stay(tmp_path: Path) -> None:
    aged(tmp_path / HUB, 0)
    works = [aged(tmp_path / f"work-{number:02}", number) for number in range(MOST_KEPT)]
    exports = [aged(tmp_path / f"{EXPORT}-{n:02}", 100 + n) for n in range(MOST_KEPT)]
    with WorkDirectory(tmp_path, "another").held():
        assert not works[0].exists()
        assert works[1].exists()
    assert (tmp_path / HUB).exists()
    assert all(path.exists() for path in exports)  # they take no place of works


def test_what_another_run_holds_is_not_removed_however_old(tmp_path: Path) -> None:
    other = WorkDirectory(tmp_path, "held")
    with other.held():
        aged(other.path, 0)
        works = [aged(tmp_path / f"work-{number:02}", 1 + number) for number in range(MOST_KEPT)]
        with WorkDirectory(tmp_path, "another").held():
            assert other.path.exists()
            assert not works[0].exists()
    with WorkDirectory(tmp_path, "another").held():
        assert not other.path.exists()
        assert not (tmp_path / "held.lock").exists()


def test_an_export_is_made_once_and_counts_as_used_when_it_is_read(tmp_path: Path) -> None:
    with exported(tmp_path, "a", "model.onnx", lambda out: out.write_bytes(b"once")) as path:
        folder = path.parent
    aged(folder, 0)
    for number in range(MOST_KEPT):
        aged(tmp_path / f"{EXPORT}-{number:02}", 1 + number)
    with exported(tmp_path, "a", "model.onnx", lambda out: out.write_bytes(b"twice")) as path:
        forget_old(tmp_path)
        assert path.read_bytes() == b"once"
        assert not (tmp_path / f"{EXPORT}-00").exists()
        aged(folder, 0)  # as if as many others had been made since then
        aged(tmp_path / f"{EXPORT}-00", 1)
        forget_old(tmp_path)
        assert path.exists()
    forget_old(tmp_path)
    assert not folder.exists()


def test_who_waited_for_a_folder_that_was_removed_holds_the_new_one(tmp_path: Path) -> None:
    """Not the lock of the old one, beside which others would take another."""
    waiting, entered = threading.Event(), threading.Event()

    def wait() -> None:
        waiting.set()
        with WorkDirectory(tmp_path, "key").held() as work:
            assert work.path.exists()
            entered.set()

    thread = threading.Thread(target=wait)
    with held_for_removal(tmp_path / "key") as free:
        assert free
        thread.start()
        assert waiting.wait(5)
        assert not entered.wait(0.2)
    thread.join(5)
    assert entered.is_set()
    assert (tmp_path / "key.lock").exists()


def test_a_removal_that_was_interrupted_is_finished_and_seen_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "key.gone" / "step").mkdir(parents=True)
    with WorkDirectory(tmp_path, "key").held() as work:
        assert not (tmp_path / "key.gone").exists()
        assert not list(work.path.iterdir())


def test_a_work_is_named_by_all_that_it_is_made_of() -> None:
    made_of = [("a",), ("b",), ("a", "b"), ("ab",), (["a"], "b"), (b"a",), ({"a": 1},), ({"a": 2},)]
    assert len({work_key("kind", *parts) for parts in made_of}) == len(made_of)
    assert work_key("kind", {"a": 1, "b": 2}) == work_key("kind", {"b": 2, "a": 1})
