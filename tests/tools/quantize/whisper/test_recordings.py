"""Recordings with their words: what is taken, and what is refused by its line."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.errors import BadPayload, BadRequest
from tools.quantize.whisper import recordings
from tools.quantize.whisper.recordings import MAX_SECONDS, read
from tools.quantize.whisper.source import RATE


def recorded(path: Path, frames: int = 160, channels: int = 1, width: int = 2, rate: int = RATE):
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(b"\0\x40"[:width] * frames * channels)


def listed(folder: Path, *lines: Any) -> Path:
    path = folder / "set.jsonl"
    path.write_text("\n".join(x if isinstance(x, str) else json.dumps(x) for x in lines))
    return path


GOOD = {"audio": "a.wav", "text": "one"}


def test_sounds_words_and_slices_are_read(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    recorded(tmp_path / "a.wav")
    recorded(tmp_path / "sub" / "b.wav")
    lines = (
        {**GOOD, "slice": "quiet"},
        "",
        {"audio": "sub/b.wav", "text": "two", "slice": ["loud", "far"]},
    )
    found = read(listed(tmp_path, *lines))
    assert [(r.text, r.slices) for r in found.each] == [
        ("one", ("quiet",)),
        ("two", ("loud", "far")),
    ]
    samples = found.each[1].samples()
    assert samples.dtype == np.float32
    assert samples.tolist() == [0.5] * 160
    assert found.about == "2 recordings of set.jsonl"


def test_another_sound_or_word_is_another_set(tmp_path: Path) -> None:
    recorded(tmp_path / "a.wav")
    first = read(listed(tmp_path, GOOD)).digest
    assert read(listed(tmp_path, GOOD)).digest == first
    assert read(listed(tmp_path, {**GOOD, "text": "two"})).digest != first
    recorded(tmp_path / "a.wav", 161)
    assert read(listed(tmp_path, GOOD)).digest != first


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2"),
        ("[]", "line 2"),
        ({"audio": "a.wav"}, "text"),
        ({**GOOD, "text": "…"}, "no word"),
        ({**GOOD, "other": 1}, "other"),
        ({**GOOD, "audio": "none.wav"}, "there is no file"),
        ({**GOOD, "audio": "text.wav"}, "cannot be read"),
        ({**GOOD, "audio": "."}, "cannot be read"),
        ({**GOOD, "audio": "stereo.wav"}, "2 channel"),
        ({**GOOD, "audio": "8bit.wav"}, "8 bits"),
        ({**GOOD, "audio": "8k.wav"}, "8000 Hz"),
        ({**GOOD, "audio": "empty.wav"}, "0.0 s"),
        ({**GOOD, "audio": "cut.wav"}, "ends early"),
    ],
)
def test_what_is_no_recording_is_refused_by_its_line(
    tmp_path: Path, line: dict[str, Any] | str, said: str
) -> None:
    recorded(tmp_path / "a.wav")
    recorded(tmp_path / "stereo.wav", channels=2)
    recorded(tmp_path / "8bit.wav", width=1)
    recorded(tmp_path / "8k.wav", rate=8000)
    recorded(tmp_path / "empty.wav", frames=0)
    (tmp_path / "text.wav").write_text("hello")
    (tmp_path / "cut.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:-100])
    with pytest.raises(BadPayload) as refused:
        read(listed(tmp_path, GOOD, line))
    assert "line 2" in str(refused.value)
    assert said in str(refused.value)
    if said == "there is no file":
        assert not refused.value.hint  # nothing to convert


def test_a_window_of_sound_is_taken_and_a_sample_more_is_not(tmp_path: Path) -> None:
    recorded(tmp_path / "a.wav", MAX_SECONDS * RATE)
    assert len(read(listed(tmp_path, GOOD)).each[0].samples()) == 480_000
    recorded(tmp_path / "a.wav", MAX_SECONDS * RATE + 1)
    with pytest.raises(BadPayload, match="at most 30"):
        read(listed(tmp_path, GOOD))


def test_a_set_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded(tmp_path / "a.wav")
    monkeypatch.setattr(recordings, "MAX_LINES", 2)
    assert len(read(listed(tmp_path, GOOD, GOOD)).each) == 2
    with pytest.raises(BadPayload, match="at most 2 lines"):
        read(listed(tmp_path, GOOD, GOOD, GOOD))


def test_nothing_to_judge_by_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="recordings"):
        read(None)
    with pytest.raises(BadPayload, match="no recording"):
        read(listed(tmp_path, ""))
    with pytest.raises(BadPayload, match="cannot be read"):
        read(tmp_path / "none.jsonl")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=200))
def test_no_file_of_lines_does_more_than_be_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "set.jsonl"
    path.write_bytes(data)
    with pytest.raises(BadPayload):
        read(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.binary(max_size=120))
def test_no_sound_does_more_than_be_refused(tmp_path: Path, tail: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF\x64\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0" + tail)
    with pytest.raises(BadPayload):
        read(listed(tmp_path, GOOD))
