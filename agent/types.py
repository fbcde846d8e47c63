"""Frozen values that more than one room speaks of. No behaviour beyond their own consistency."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array: TypeAlias = NDArray[Any]
    Tensors: TypeAlias = Mapping[str, NDArray[Any]]
else:  # NumPy is not imported for the sake of annotations
    Array = Any
    Tensors = Mapping[str, Any]

#: Tensor element types, named as the Open Inference Protocol names them.
DType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip

#: Which floating-point values an input takes: all; all but NaN; all but NaN and the infinities.
Values = Literal["any", "numbers", "finite"]

#: What must reach the cloud, in falling order of importance.
MessageClass = Literal["escalation", "report", "telemetry"]


@dataclass(frozen=True, slots=True)
class Quantization:
    """Affine quantization of a whole tensor: real = (stored - zero_point) * scale."""

    scale: float
    zero_point: int = 0


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: the tensor's name inside the model file.
        dtype: element type, Open Inference Protocol name.
        shape: sizes; -1 where the size is free (batch).
        unit: physical or logical unit of the elements, empty when there is none.
        quantization: how stored integers map to real values; None for unquantized tensors.
        values: which floating-point values an input takes; None where the manifest does not say.
    """

    name: str
    dtype: DType
    shape: tuple[int, ...]
    unit: str = ""
    quantization: Quantization | None = None
    values: Values | None = None


@dataclass(frozen=True, slots=True, order=True)
class ModelRef:
    """A model's name and semantic version, for example ``pump-anomaly 1.0.0``."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, slots=True)
class Rows:
    """A run of readings of one stream, as a table. NaN means "no reading of this sensor in this row".

    Attributes:
        stream: what is being watched, for example ``pump-1``.
        sensors: column names, length k.
        time: float64 [n], seconds since the Unix epoch, as the source says it.
        values: float64 [n, k], in each sensor's own unit.
    """

    stream: str
    sensors: tuple[str, ...]
    time: "NDArray[np.float64]"
    values: "NDArray[np.float64]"

    def __len__(self) -> int:
        return len(self.time)

    @property
    def readings(self) -> int:
        """How many single values the table holds, missing ones (NaN) not counted."""
        import numpy as np

        return int(np.count_nonzero(~np.isnan(self.values)))


@dataclass(frozen=True, slots=True)
class Message:
    """Something that must reach the cloud; a row of the outbox.

    Attributes:
        id: UUIDv7, the key by which a receiver drops repeats.
        kind: escalation, report or telemetry.
        topic: full MQTT topic.
        payload: at most 128 KiB.
        created: wall time, seconds since the Unix epoch.
        expires: wall time after which it is worthless; infinity for never.
    """

    id: str
    kind: MessageClass
    topic: str
    payload: bytes
    created: float
    expires: float = math.inf


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for local listeners (server-sent events, the terminal).

    Attributes:
        type: dotted name, for example ``anomaly.warning``.
        time: wall time, seconds since the Unix epoch.
        data: JSON-serialisable detail.
    """

    type: str
    time: float
    data: Mapping[str, Any] = field(default_factory=dict)
