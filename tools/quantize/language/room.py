"""The memory that a language model takes on a device. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIB = 2**20
RUNTIME_MIB = 96  # the interpreter and the runtime
COPIES = 1.35  # of the file: weights are laid out anew for the processor, a matrix at a time
FLOAT = 4  # bytes of a key's or a value's element


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides on the size of a conversation in memory.

    Attributes:
        layers: of the model.
        heads: that keys and values have, in each.
        size: of a head.
    """

    layers: int
    heads: int
    size: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Shape":
        """From a `genai_config.json`."""
        decoder = config["model"]["decoder"]
        return cls(
            int(decoder["num_hidden_layers"]),
            int(decoder["num_key_value_heads"]),
            int(decoder["head_size"]),
        )

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token."""
        return 2 * self.layers * self.heads * self.size * FLOAT


def needed_mib(file_bytes: int, shape: Shape, context: int, conversations: int) -> int:
    """Weights, and as many conversations as are remembered, each of them a full window, MiB."""
    memory = COPIES * file_bytes + shape.token_bytes * context * conversations
    return RUNTIME_MIB + math.ceil(memory / MIB)
