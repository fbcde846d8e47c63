"""The program of speech models: a session that hears."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec

from agent.engines.speech import SpeechSession, TranscriptionRequest
from agent.engines.worker.tensors import TensorProgram
from agent.errors import BadModel
from agent.types import Tensors

TRANSCRIBE = "transcribe"
RECORDING = "recording"  # the tensor that a file's bytes come in


class SpeechProgram(TensorProgram):
    """Runs a session as tensors, and has it transcribe."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        super().__init__(files, options)
        if not isinstance(self.session, SpeechSession):
            raise BadModel("its engine does not hear")
        self._speech = self.session

    def stream(
        self, method: str, payload: Any, tensors: Tensors, cancelled: Callable[[], bool]
    ) -> Generator[Any, None, None]:
        """The passages of a transcript."""
        if method != TRANSCRIBE:
            yield from super().stream(method, payload, tensors, cancelled)
            return
        request = msgspec.convert(payload, TranscriptionRequest)
        for passage in self._speech.transcribe(tensors[RECORDING], request, cancelled):
            yield msgspec.to_builtins(passage)
