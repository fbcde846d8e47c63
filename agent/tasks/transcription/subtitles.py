"""Subtitles of a transcript, as SubRip and as WebVTT have them. Pure."""

from collections.abc import Iterable, Sequence

from agent.engines.speech import Segment


def text(segments: Iterable[Segment]) -> str:
    """All that was said, as one line."""
    return "".join(segment.text for segment in segments).strip()


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered cues with a comma before the milliseconds; an empty line ends each."""
    cues = (
        f"{number}\n{_time(s.start_s, ',')} --> {_time(s.end_s, ',')}\n{_line(s.text)}\n\n"
        for number, s in enumerate(segments, 1)
    )
    return "".join(cues)


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT (W3C, sections 4.1 and 4.2.2): what would be markup in a cue is escaped."""
    cues = (
        f"{_time(s.start_s, '.')} --> {_time(s.end_s, '.')}\n{_escaped(_line(s.text))}\n\n"
        for s in segments
    )
    return "WEBVTT\n\n" + "".join(cues)


def _line(said: str) -> str:
    """Without line breaks, which would end the cue."""
    return " ".join(said.split())


def _escaped(said: str) -> str:
    return said.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _time(seconds: float, point: str) -> str:
    milliseconds = max(round(1000 * seconds), 0)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    whole, thousandths = divmod(rest, 1000)
    return f"{hours:02}:{minutes:02}:{whole:02}{point}{thousandths:03}"
