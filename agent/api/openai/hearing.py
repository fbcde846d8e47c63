"""Speech models behind the API: what is counted of a transcript while it is written down."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from time import perf_counter

import numpy as np

from agent.api.openai.ahead import Producers
from agent.api.ports import ModelPort
from agent.engines.speech import Heard, Passage, SpeechSession, TranscriptionRequest
from agent.errors import BadRequest
from agent.telemetry.metrics import Metrics

MAX_HEARING = 4  # recordings that are heard or waited for at once


class HearingMetrics:
    """What is counted for each speech model."""

    def __init__(self, metrics: Metrics) -> None:
        self.audio = metrics.counter(
            "edge_agent_transcription_audio_seconds_total",
            "Length of the recordings that were transcribed",
            ("model",),
        )
        self.taken = metrics.counter(
            "edge_agent_transcription_seconds_total",
            "Time that transcripts took, waiting included",
            ("model",),
        )


class Listeners:
    """Has speech models hear. Used from one event loop.

    Attributes:
        producers: the transcripts under way.
    """

    def __init__(self, metrics: HearingMetrics) -> None:
        self.producers = Producers(MAX_HEARING, "hear")
        self._metrics = metrics

    async def hear(
        self, model: ModelPort, recording: bytes | memoryview, request: TranscriptionRequest
    ) -> AsyncGenerator[Passage, None]:
        """The passages of a recording, a file's bytes; closing it stops the model.

        Raises:
            BadRequest: the model does not hear.
            TooMany: too many recordings are being heard.
            AgentError: as `SpeechSession.transcribe`.
        """
        started = perf_counter()
        session = speech_session(model)
        source = partial(session.transcribe, np.frombuffer(recording, np.uint8), request)
        async with aclosing(self.producers.parts(model, source)) as passages:
            async for passage in passages:
                if isinstance(passage, Heard):
                    self._metrics.audio.inc(passage.duration_s, model.ref.name)
                    self._metrics.taken.inc(perf_counter() - started, model.ref.name)
                yield passage

    def close(self) -> None:
        """Let the threads go. Idempotent."""
        self.producers.close()


def speech_session(model: ModelPort) -> SpeechSession:
    """The session of a model that hears. Raises BadRequest."""
    session = model.session
    if not isinstance(session, SpeechSession):
        message = f"the model does not hear: its task is {model.manifest.task}"
        raise BadRequest(message, where="model")
    return session
