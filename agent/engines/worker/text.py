"""The program of language models: a session that writes text."""

from collections.abc import Callable, Generator, Mapping
from typing import Any

import msgspec

from agent.engines.generation import GenerationRequest, TextSession
from agent.engines.worker.program import Answer
from agent.engines.worker.tensors import TensorProgram
from agent.errors import BadModel
from agent.types import Tensors

GENERATE, WINDOW = "generate", "window"


class TextProgram(TensorProgram):
    """Runs a session as tensors, and has it write."""

    def __init__(self, files: Mapping[str, bytes], options: Any) -> None:
        super().__init__(files, options)
        if not isinstance(self.session, TextSession):
            raise BadModel("its engine does not write text")
        self._text = self.session

    def call(self, method: str, payload: Any, tensors: Tensors) -> Answer:
        """The size of the window, or a run."""
        if method == WINDOW:
            return self._text.window, {}
        return super().call(method, payload, tensors)

    def stream(
        self, method: str, payload: Any, tensors: Tensors, cancelled: Callable[[], bool]
    ) -> Generator[Any, None, None]:
        """The parts of an answer."""
        if method != GENERATE:
            yield from super().stream(method, payload, tensors, cancelled)
            return
        request = msgspec.convert(payload, GenerationRequest)
        for part in self._text.generate(request, cancelled):
            yield msgspec.to_builtins(part)

    def close(self) -> None:
        """Remove what the engine put beside the process."""
        self.session.close()
