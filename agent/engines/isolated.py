"""A session whose model runs in a worker process."""

from collections.abc import Sequence
from typing import ClassVar

import msgspec

from agent.engines.base import NUMPY_DTYPES, Session, checked
from agent.engines.worker.supervisor import Worker
from agent.engines.worker.tensors import RUN
from agent.errors import BadTensor, EngineFailed
from agent.types import Array, TensorSpec

PROGRAM = "agent.engines.worker.tensors:TensorProgram"


class IsolatedSession(Session):
    """The tensor contract over a worker, which it owns.

    Raises, beside what every session raises, WorkerDied when the process ends during a run, and
    TooSlow when it gives no answer.
    """

    parallel = True
    program: ClassVar[str] = PROGRAM

    def __init__(self, worker: Worker) -> None:
        inputs, outputs = msgspec.convert(
            worker.description, tuple[list[TensorSpec], list[TensorSpec]]
        )
        super().__init__(inputs, outputs)
        self.worker = worker
        self._expected = [(s.name, NUMPY_DTYPES[s.dtype], s.shape) for s in outputs]
        self._input_names = tuple(spec.name for spec in inputs)

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        tensors = dict(zip(self._input_names, arrays, strict=True))
        found = self.worker.call(RUN, None, tensors).tensors
        try:
            return [checked(found, *expected) for expected in self._expected]
        except BadTensor as error:  # the worker's fault, not the caller's
            raise EngineFailed(f"the worker's answer is wrong: {error}") from error

    def _close(self) -> None:
        self.worker.close()
