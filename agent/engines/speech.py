"""The contract of a model that writes down what it hears.

Plain values, so that a request and its answer can travel to a worker process as they are. A session
that hears keeps the tensor contract too: one run over `audio` gives the `tokens` of a transcript.
"""

from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct

from agent.engines.base import Session
from agent.engines.generation import not_cancelled
from agent.types import Array

MAX_PROMPT = 4096  # characters; the model reads the last 223 tokens of it


class TranscriptionRequest(Struct, frozen=True):
    """How a recording is to be heard.

    Attributes:
        language: code of what is spoken, for example ``de``; empty for what the model's manifest
            says, and else for what it detects.
        translate: write English, whatever is spoken.
        prompt: what was said before, or names that may occur and how they are spelt.
        temperature: how freely tokens are chosen; 0 takes the likeliest, and goes up by itself where
            a passage comes out as nonsense.
        words: say when each word was spoken.
    """

    language: Annotated[str, Meta(max_length=16)] = ""
    translate: bool = False
    prompt: Annotated[str, Meta(max_length=MAX_PROMPT)] = ""
    temperature: Annotated[float, Meta(ge=0, le=1)] = 0.0
    words: bool = False


class Word(Struct, frozen=True):
    """A word and when it was spoken, seconds from the beginning; probability 0 to 1."""

    text: str
    start_s: float
    end_s: float
    probability: float


class Segment(Struct, frozen=True, tag="segment"):
    """A passage.

    Attributes:
        start_s: from the beginning of the recording, seconds.
        end_s: likewise.
        text: with the space that it begins with.
        tokens: ids, those of times among them.
        temperature: at which it was written.
        avg_logprob: mean logarithm of its tokens' probabilities.
        compression_ratio: of its text; above 2.4 it repeats itself.
        no_speech_prob: how likely nobody speaks, 0 to 1.
        words: when they were asked for.
    """

    start_s: float
    end_s: float
    text: str
    tokens: tuple[int, ...]
    temperature: float
    avg_logprob: float
    compression_ratio: float
    no_speech_prob: float
    words: tuple[Word, ...] = ()


class Heard(Struct, frozen=True, tag="heard"):
    """The end of a transcript.

    Attributes:
        language: code of what was spoken; what the request or the manifest said, or detected.
        language_probability: 1 where it was said.
        duration_s: of the recording, seconds.
    """

    language: str
    language_probability: float
    duration_s: float


Passage: TypeAlias = Segment | Heard


class SpeechSession(Session):
    """A loaded model that hears. Several threads may transcribe at once."""

    parallel = True

    @abstractmethod
    def transcribe(
        self,
        recording: Array,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = not_cancelled,
    ) -> Generator[Passage, None, None]:
        """Write a recording down: segments as they are understood, and one Heard at the end.

        Args:
            recording: a file's bytes, uint8 [n]: wav, flac, ogg, mp3, m4a, mp4, webm or aac.
            request: how it is to be heard.
            cancelled: asked before each segment; the transcript ends, without a Heard, once it is
                true.

        Raises:
            BadPayload: the file is no recording, or the model does not know the language.
            TooLarge: the recording is too long.
            EngineFailed: the runtime failed.
            NotReady: the session is closed.
        """
