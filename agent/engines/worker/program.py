"""What a worker runs. Subclasses fill in what they can be asked; the rest is the channel's."""

from collections.abc import Callable, Generator, Mapping
from typing import Any, TypeAlias

import msgspec

from agent.engines.worker.limits import Limits
from agent.errors import BadPayload
from agent.types import Array, Tensors

#: Payload and tensors of an answer.
Answer: TypeAlias = tuple[Any, Mapping[str, Array]]

#: Makes a program of a package's files and of options that MessagePack can say.
Create: TypeAlias = "Callable[[Mapping[str, bytes], Any], Program]"


class Order(msgspec.Struct, frozen=True):
    """What a worker is to become.

    Attributes:
        program: ``module:callable``; it names code of ours, never anything that a package holds.
        options: for it.
        limits: to which it holds itself.
    """

    program: str
    options: Any
    limits: Limits


class Program:
    """Something that answers calls in a worker; several threads may call at once.

    A program is named as ``module:callable``, and made by calling that with the package's files and
    the options that the daemon sent. Raises AgentErrors, which arrive at the caller as they are;
    whatever else it raises arrives as EngineFailed.

    Attributes:
        description: what the daemon is told once it stands; whatever MessagePack can say.
    """

    description: Any = None

    def call(self, method: str, payload: Any, tensors: Tensors) -> Answer:
        """Answer one call. The tensors are views that last until the answer is given."""
        del payload, tensors
        raise BadPayload("the program has no such method", where=method)

    def stream(
        self, method: str, payload: Any, tensors: Tensors, cancelled: Callable[[], bool]
    ) -> Generator[Any, None, None]:
        """Answer in pieces; `cancelled` is asked between two pieces in any case.

        The tensors are views that last until the last piece.
        """
        del payload, tensors, cancelled
        raise BadPayload("the program has no such stream", where=method)

    def close(self) -> None:
        """Clean up, if there is anything outside the process to be cleaned. It ends right after."""
