"""What a model takes and gives, as the codec needs it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from agent.errors import BadTensor
from agent.types import TensorSpec


@dataclass(frozen=True)
class Signature:
    """A model's tensors.

    Attributes:
        name: of the model.
        version: of the model.
        inputs: by name.
        outputs: by name, in the order in which they are answered.
        nan: whether inputs that do not say which values they take may hold NaN, as a model says that
            knows "no reading".
    """

    name: str
    version: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    nan: bool = False

    @classmethod
    def of(
        cls,
        name: str,
        version: str,
        inputs: Sequence[TensorSpec],
        outputs: Sequence[TensorSpec],
        *,
        nan: bool = False,
    ) -> "Signature":
        """A signature from lists of tensors."""
        return cls(name, version, {s.name: s for s in inputs}, {s.name: s for s in outputs}, nan)

    def input(self, name: str) -> TensorSpec:
        """The input of this name.

        Raises:
            BadTensor: there is none.
        """
        spec = self.inputs.get(name)
        if spec is None:
            raise BadTensor("no such input", where=name, hint=_known("inputs", self.inputs))
        return spec

    def output(self, name: str) -> TensorSpec:
        """The output of this name.

        Raises:
            BadTensor: there is none.
        """
        spec = self.outputs.get(name)
        if spec is None:
            raise BadTensor("no such output", where=name, hint=_known("outputs", self.outputs))
        return spec


def _known(what: str, specs: Mapping[str, TensorSpec]) -> str:
    return f"The {what} are: {', '.join(specs)}"
