"""A session that hears in a worker process."""

from collections.abc import Callable, Generator
from typing import Any

import msgspec

from agent.engines.generation import Cancellation, not_cancelled
from agent.engines.isolated import IsolatedSession
from agent.engines.speech import Heard, Passage, Segment, SpeechSession, TranscriptionRequest
from agent.engines.worker.speech import RECORDING, TRANSCRIBE
from agent.errors import EngineFailed
from agent.types import Array

PROGRAM = "agent.engines.worker.speech:SpeechProgram"

#: For one segment, seconds: silence gives none, and a slow device hears no faster than it was said.
PATIENCE_S = 600.0


class IsolatedSpeechSession(IsolatedSession, SpeechSession):
    """The contract of hearing over a worker. Raises what `IsolatedSession` raises as well."""

    program = PROGRAM

    def transcribe(
        self,
        recording: Array,
        request: TranscriptionRequest,
        cancelled: Callable[[], bool] = not_cancelled,
    ) -> Generator[Passage, None, None]:
        payload, tensors = msgspec.to_builtins(request), {RECORDING: recording}
        with self.worker.stream(TRANSCRIBE, payload, tensors, patience_s=PATIENCE_S) as stream:
            if isinstance(cancelled, Cancellation):
                cancelled.then(stream.cancel)
            for passage in stream:
                if cancelled():
                    return
                yield _passage(passage)


def _passage(payload: Any) -> Passage:
    try:
        passage: Passage = msgspec.convert(payload, Segment | Heard)
    except msgspec.ValidationError as error:
        raise EngineFailed(f"the worker's answer is wrong: {error}") from error
    return passage
