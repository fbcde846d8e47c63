"""A session whose model runs in a worker process."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar, TypeAlias

import msgspec

from agent.engines.base import NUMPY_DTYPES, Session, checked
from agent.engines.worker.process import Reply
from agent.engines.worker.supervisor import Worker
from agent.engines.worker.tensors import RUN
from agent.errors import BadTensor, EngineFailed
from agent.types import Array, Tensors, TensorSpec

PROGRAM = "agent.engines.worker.tensors:TensorProgram"

#: Outputs that came at once, or what waits for them.
Begun: TypeAlias = dict[str, Array] | Callable[[], dict[str, Array]]


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

    def begin(self, tensors: Tensors, briefly_s: float) -> Begun:
        """As `run`, but wait for the worker only so long, seconds.

        Returns:
            The outputs, or what waits for them: to be called once, in a thread; it raises as `run`.
        """
        self._admitted(tensors)
        begun = self.worker.begin(RUN, tensors, briefly_s)
        return self._outputs(begun) if isinstance(begun, Reply) else partial(self._late, begun)

    def _late(self, wait: Callable[[], Reply]) -> dict[str, Array]:
        return self._outputs(wait())

    def _outputs(self, reply: Reply) -> dict[str, Array]:
        return dict(zip(self._output_names, self._verified(reply), strict=True))

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        tensors = dict(zip(self._input_names, arrays, strict=True))
        return self._verified(self.worker.call(RUN, None, tensors))

    def _verified(self, reply: Reply) -> list[Array]:
        try:
            return [checked(reply.tensors, *expected) for expected in self._expected]
        except BadTensor as error:  # the worker's fault, not the caller's
            raise EngineFailed(f"the worker's answer is wrong: {error}") from error

    def _close(self) -> None:
        self.worker.close()
