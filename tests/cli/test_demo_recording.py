"""Recordings for the demo: tables with labels, which are never fed to the model."""

from pathlib import Path

import pytest

from agent.cli.demo.recording import from_csv, simulated
from agent.errors import BadRecording, NotFound
from agent.pipelines.tables import Choices

LABELLED = """\
datetime;flow;pressure;anomaly;changepoint
2020-03-09 10:14:33;3.1;0.4;0;0
2020-03-09 10:14:34;3.2;0.4;1;1
2020-03-09 10:14:35;3.3;0.5;1;0
2020-03-09 10:14:36;3.2;0.4;0;0
2020-03-09 10:14:37;3.2;0.4;1;0
"""


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "valve 1.csv"
    path.write_text(LABELLED)
    return path


def test_labels_become_stretches_and_never_sensors(labelled: Path) -> None:
    recording = from_csv(labelled, Choices())
    assert recording.rows.sensors == ("flow", "pressure")
    start = recording.rows.time[0]
    assert [(s.start - start, s.end - start) for s in recording.spans] == [(1, 2), (4, 4)]


def test_the_stream_is_named_after_the_file(labelled: Path) -> None:
    assert from_csv(labelled, Choices()).rows.stream == "valve 1"


def test_a_label_column_can_be_named(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,flow,broken\n1,3,0\n2,3,1\n3,4,0\n")
    recording = from_csv(path, Choices(labels=("broken",)))
    assert recording.rows.sensors == ("flow",)
    assert len(recording.spans) == 1


def test_without_labels_there_are_no_stretches(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("time,flow\n1,3\n2,3\n")
    assert from_csv(path, Choices()).spans == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"time,flow\n", "not enough rows"),
        (b"time,flow\n1,2\n", "not enough rows"),
        (b"time,flow\n1,2\n2,x\n", "no column holds numbers"),
        (b"\xff\xfe\x00\x01", "UTF-8"),
        (b"", "name the columns"),
    ],
)
def test_a_file_that_is_no_recording_is_refused_by_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(BadRecording, match=message) as refused:
        from_csv(path, Choices())
    assert str(path) in refused.value.where


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"):
        from_csv(tmp_path / "none.csv", Choices())


def test_the_simulated_pump_fails_three_times_and_always_alike() -> None:
    first, again = simulated(seed=1), simulated(seed=1)
    assert [span.name for span in first.spans] == ["cavitation", "closing valve", "bearing wear"]
    assert (first.rows.values == again.rows.values).all()
    assert first.rows.time[0] < first.spans[0].start
    assert first.spans[-1].end < first.rows.time[-1]
