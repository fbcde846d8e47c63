"""Recordings from files, in step with their own time."""

from pathlib import Path

import numpy as np
import pytest

from agent.errors import BadReading, BadRecording, NotFound
from agent.pipelines.sources.replay import open_recording, paced


class Time:
    """A clock that passes when one sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def wall(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_real_recording_works_as_it_is(shared_data: Path) -> None:
    with open_recording(shared_data / "skab" / "valve1" / "0.csv") as recording:
        parts = list(recording.parts())
        assert recording.stream == "0"
        assert recording.labels == ("anomaly", "changepoint")
        assert len(recording.sensors) == 8
        assert recording.layout.left_out == ()
    values = np.concatenate([part.rows.values for part in parts])
    labels = np.concatenate([part.labels["anomaly"] for part in parts])
    assert values.shape == (1147, 8)
    assert np.isfinite(values).all()
    assert 300 < labels.sum() < 500
    assert parts[0].rows.time[0] == 1583748873.0


def test_another_real_recording_with_commas_and_one_sensor(shared_data: Path) -> None:
    with open_recording(
        shared_data / "nab" / "machine_temperature_system_failure.csv"
    ) as recording:
        assert recording.sensors == ("value",)
        assert sum(len(part.rows) for part in recording.parts()) > 20_000


def test_every_shared_recording_can_be_read(shared_data: Path) -> None:
    for path in sorted((shared_data / "skab").glob("*/*.csv")):
        with open_recording(path) as recording:
            assert not set(recording.sensors) & {"anomaly", "changepoint"}
            assert sum(len(part.rows) for part in recording.parts()) > 500


async def test_a_replay_keeps_step_with_the_recording(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "time,flow\n" + "".join(f"{t},1\n" for t in (0, 1, 3, 4)))
    time = Time()
    with open_recording(path) as recording:
        heard = [time.now async for _ in paced(recording.parts(1), speed=2.0, clock=time)]
    assert heard == [100.0, 100.5, 101.5, 102.0]


async def test_a_replay_makes_up_for_slow_hand_overs(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "time,flow\n" + "".join(f"{t},1\n" for t in range(4)))
    time, heard = Time(), []
    with open_recording(path) as recording:
        async for _ in paced(recording.parts(1), speed=1.0, clock=time):
            heard.append(time.now)
            time.now += 0.75
    assert heard == [100.0, 101.0, 102.0, 103.0]


async def test_gaps_and_steps_back_do_not_stall_a_replay(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "time,flow\n1,1\n31536000,1\n5,1\n6,1\n")
    time = Time()
    with open_recording(path) as recording:
        heard = [time.now async for _ in paced(recording.parts(1), speed=1.0, clock=time)]
    assert heard == [100.0, 105.0, 105.0, 106.0]


async def test_as_fast_as_possible_never_sleeps(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "time,flow\n1,1\n500,1\n")
    time = Time()
    with open_recording(path) as recording:
        assert [time.now async for _ in paced(recording.parts(1), speed=0, clock=time)] == [
            100.0
        ] * 2


def test_an_absent_file_is_said_to_be_absent(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no such file"), open_recording(tmp_path / "x.csv"):
        pass


def test_a_directory_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="cannot be read"), open_recording(tmp_path):
        pass


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"time,flow\n\xff\xfe\x81,\x00\n")
    with pytest.raises(BadRecording, match=r"UTF-8|text"), open_recording(path):
        pass


def test_a_wrong_cell_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "time,flow\n1,2\nsoon,3\n")
    with pytest.raises(BadRecording) as caught, open_recording(path) as recording:
        list(recording.parts())
    assert caught.value.where == f"{path}, line 3, column 'time'"


def test_a_stream_cannot_be_named_with_wildcards(tmp_path: Path) -> None:
    path = write(tmp_path / "x.csv", "time,flow\n1,2\n")
    with pytest.raises(BadReading), open_recording(path, stream="a/#"):
        pass
