"""Subtitles as players read them."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.engines.speech import Segment
from agent.tasks.transcription import subtitles

CUE = re.compile(r"(\d{2,}):([0-5]\d):([0-5]\d)([.,])(\d{3})")


def segment(start_s: float, end_s: float, text: str) -> Segment:
    return Segment(start_s, end_s, text, (), 0.0, -0.1, 1.0, 0.0)


SAID = [segment(0.0, 1.5, " Close the valve,"), segment(1.5, 3725.0071, " then <b>wait</b> & see.")]


def test_a_transcript_is_one_line_of_text() -> None:
    assert subtitles.text(SAID) == "Close the valve, then <b>wait</b> & see."
    assert subtitles.text([]) == ""


def test_subrip_numbers_its_cues_and_has_commas() -> None:
    assert subtitles.srt(SAID) == (
        "1\n00:00:00,000 --> 00:00:01,500\nClose the valve,\n\n"
        "2\n00:00:01,500 --> 01:02:05,007\nthen <b>wait</b> & see.\n\n"
    )


def test_webvtt_begins_with_its_name_and_escapes_markup() -> None:
    assert subtitles.vtt(SAID) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\nClose the valve,\n\n"
        "00:00:01.500 --> 01:02:05.007\nthen &lt;b&gt;wait&lt;/b&gt; &amp; see.\n\n"
    )


times = st.floats(0, 4 * 3600)


@given(st.lists(st.builds(segment, times, times, st.text(min_size=1)), max_size=5))
def test_nothing_that_is_said_makes_a_cue_or_ends_one(segments: list[Segment]) -> None:
    srt, vtt = subtitles.srt(segments), subtitles.vtt(segments)
    assert srt.count("\n\n") == vtt.count("\n\n") - 1 == len(segments)
    assert vtt.count("-->") == len(segments)
    for found, point in ((srt, ","), (vtt, ".")):
        lines = found.splitlines() if point == "," else found.splitlines()[2:]
        marks = [line for line in lines if re.fullmatch(f"{CUE.pattern} --> {CUE.pattern}", line)]
        assert len(marks) >= len(segments)


@given(times)
def test_a_time_is_within_half_a_millisecond(seconds: float) -> None:
    line = subtitles.srt([segment(seconds, seconds, "a")]).splitlines()[1]
    found = CUE.match(line)
    assert found is not None
    hours, minutes, whole, _, thousandths = found.groups()
    told = 3600 * int(hours) + 60 * int(minutes) + int(whole) + int(thousandths) / 1000
    assert abs(told - seconds) <= 0.0005 + 1e-9
