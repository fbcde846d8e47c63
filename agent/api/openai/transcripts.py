"""Transcripts as OpenAI's clients ask for them and read them. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal, TypeVar

import msgspec

from agent.api.openai.forms import Form
from agent.engines.speech import Heard, Passage, Segment, TranscriptionRequest
from agent.errors import BadPayload, EngineFailed
from agent.tasks.transcription import subtitles

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """What a form asks for.

    Attributes:
        model: its name.
        recording: a file's bytes.
        request: how it is to be heard.
        format: of the answer.
        stream: send the text as it is understood.
        by_word, by_segment: what is to be timed in a verbose answer.
    """

    model: str
    recording: memoryview
    request: TranscriptionRequest
    format: Format
    stream: bool
    by_word: bool
    by_segment: bool


def asked(form: Form, *, translate: bool) -> Asked:
    """What a form asks for; unknown fields are ignored, as OpenAI does. Raises BadPayload."""
    recording = form.files.get("file")
    if recording is None:
        raise BadPayload("the form has no such file", where="file")
    format_ = _field(form, "response_format", Format, "json")
    times = _granularities(form)
    if "word" in times and format_ != "verbose_json":
        message = "words are timed in verbose_json only"
        raise BadPayload(message, where="timestamp_granularities[]")
    request = {
        "language": form.text("language") or "",
        "translate": translate,
        "prompt": form.text("prompt") or "",
        "temperature": _field(form, "temperature", float, 0.0),
        "words": "word" in times,
    }
    return Asked(
        model=_field(form, "model", str, None),
        recording=recording,
        request=_checked(request),
        format=format_,
        stream=_field(form, "stream", bool, False),
        by_word="word" in times,
        by_segment="segment" in times or not times,
    )


class Transcript:
    """What has been heard.

    Attributes:
        segments: so far.
        heard: the end of it; None until then.
    """

    def __init__(self) -> None:
        self.segments: list[Segment] = []
        self.heard: Heard | None = None

    def add(self, passage: Passage) -> None:
        """Take the next passage."""
        if isinstance(passage, Heard):
            self.heard = passage
        else:
            self.segments.append(passage)

    def ended(self) -> Heard:
        """The end. Raises EngineFailed: there is none."""
        if self.heard is None:
            raise EngineFailed("the model stopped in the middle of its transcript")
        return self.heard

    def told(self, asked: Asked) -> str | dict[str, Any]:
        """As it is asked for: a text, or what becomes JSON. Raises EngineFailed."""
        heard = self.ended()
        if asked.format == "srt":
            return subtitles.srt(self.segments)
        if asked.format == "vtt":
            return subtitles.vtt(self.segments)
        text = subtitles.text(self.segments)
        if asked.format == "text":
            return text + "\n"
        if asked.format == "verbose_json":
            return self._verbose(asked, heard, text)
        return {"text": text, "usage": usage(heard)}

    def events(self, passage: Passage) -> Iterator[dict[str, Any]]:
        """What is sent of a passage, when the answer is streamed."""
        first = not self.segments
        self.add(passage)
        if isinstance(passage, Segment):
            delta = passage.text.lstrip() if first else passage.text
            yield {"type": "transcript.text.delta", "delta": delta}
            return
        text = subtitles.text(self.segments)
        yield {"type": "transcript.text.done", "text": text, "usage": usage(passage)}

    def _verbose(self, asked: Asked, heard: Heard, text: str) -> dict[str, Any]:
        words = {"words": _words(self.segments)} if asked.by_word else {}
        segments = {"segments": _segments(self.segments)} if asked.by_segment else {}
        return {
            "task": "translate" if asked.request.translate else "transcribe",
            "language": heard.language,
            "duration": round(heard.duration_s, 3),
            "text": text,
            **words,
            **segments,
            "usage": usage(heard),
        }


def usage(heard: Heard) -> dict[str, Any]:
    """What a transcript is counted by: seconds of sound, rounded up."""
    return {"type": "duration", "seconds": ceil(heard.duration_s)}


def _segments(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [
        {
            "id": number,
            "seek": round(100 * segment.start_s),  # in frames of 10 ms
            "start": round(segment.start_s, 3),
            "end": round(segment.end_s, 3),
            "text": segment.text,
            "tokens": segment.tokens,
            "temperature": segment.temperature,
            "avg_logprob": segment.avg_logprob,
            "compression_ratio": segment.compression_ratio,
            "no_speech_prob": segment.no_speech_prob,
        }
        for number, segment in enumerate(segments)
    ]


def _words(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [
        {"word": word.text.strip(), "start": round(word.start_s, 3), "end": round(word.end_s, 3)}
        for segment in segments
        for word in segment.words
    ]


def _granularities(form: Form) -> set[str]:
    name = "timestamp_granularities"
    given = {*form.fields.get(f"{name}[]", ()), *form.fields.get(name, ())}
    given.discard("")
    if wrong := sorted(given - {"word", "segment"}):
        raise BadPayload(f"expected word or segment, got {wrong[0]!r}", where=f"{name}[]")
    return given


def _field(form: Form, name: str, kind: Any, default: Any) -> Any:
    """A field as a type; fields of a form are texts, and an empty one is how its encoder writes a null."""
    given = form.text(name)
    if not given:
        if default is None:
            raise BadPayload("the form has no such field", where=name)
        return default
    try:
        return msgspec.convert(given, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadPayload(str(error), where=name) from error


def _checked(request: dict[str, Any]) -> TranscriptionRequest:
    try:
        return msgspec.convert(request, TranscriptionRequest)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise BadPayload(message, where=path.removesuffix("`")) from error
