"""A session that writes text in a worker process."""

from collections.abc import Callable, Generator
from typing import Any

import msgspec

from agent.engines.base import translated
from agent.engines.generation import (
    Cancellation,
    Finish,
    GenerationRequest,
    Part,
    Piece,
    TextSession,
    not_cancelled,
)
from agent.engines.isolated import IsolatedSession
from agent.engines.worker.supervisor import Worker
from agent.engines.worker.text import GENERATE, WINDOW
from agent.errors import EngineFailed

PROGRAM = "agent.engines.worker.text:TextProgram"

#: For one part of an answer, seconds: a long prompt, on a slow device, while others have their turns.
PATIENCE_S = 300.0


class IsolatedTextSession(IsolatedSession, TextSession):
    """The contract of writing over a worker. Raises what `IsolatedSession` raises as well."""

    program = PROGRAM

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker)
        self.window = int(worker.call(WINDOW).payload)

    def generate(
        self, request: GenerationRequest, cancelled: Callable[[], bool] = not_cancelled
    ) -> Generator[Part, None, None]:
        payload = msgspec.to_builtins(request)
        with translated(), self.worker.stream(GENERATE, payload, patience_s=PATIENCE_S) as stream:
            if isinstance(cancelled, Cancellation):
                cancelled.then(stream.cancel)
            for part in stream:
                if cancelled():
                    return
                yield _part(part)


def _part(payload: Any) -> Part:
    try:
        part: Piece | Finish = msgspec.convert(payload, Piece | Finish)
    except msgspec.ValidationError as error:
        raise EngineFailed(f"the worker's answer is wrong: {error}") from error
    return part
