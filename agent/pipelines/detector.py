"""What a pipeline needs of a detector: one object per stream, synchronous, its state as bytes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from agent.tasks.anomaly.settings import AnomalySettings
from agent.types import Rows

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Phase = Literal["learning", "watching"]


class SensorShare(Protocol):
    """How much one sensor contributed to an alarm, and where it stands."""

    @property
    def name(self) -> str: ...
    @property
    def share(self) -> float: ...
    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...
    @property
    def direction(self) -> str: ...


class Alarm(Protocol):
    """A warning that begins or ends."""

    @property
    def kind(self) -> Literal["raised", "cleared"]: ...
    @property
    def id(self) -> str: ...
    @property
    def time(self) -> float: ...
    @property
    def since(self) -> float: ...
    @property
    def score(self) -> float: ...
    @property
    def peak(self) -> float: ...
    @property
    def sensors(self) -> Sequence[SensorShare]: ...


class Outcome(Protocol):
    """What one push did: rows accepted and dropped, windows scored (1.0 is the threshold)."""

    @property
    def accepted(self) -> int: ...
    @property
    def dropped(self) -> Mapping[str, int]: ...
    @property
    def times(self) -> "NDArray[np.float64]": ...
    @property
    def scores(self) -> "NDArray[np.float64]": ...
    @property
    def shares(self) -> "NDArray[np.float64]": ...
    @property
    def sensors(self) -> Sequence[str]: ...
    @property
    def alarms(self) -> Sequence[Alarm]: ...
    @property
    def phase(self) -> Phase: ...
    @property
    def progress(self) -> float: ...
    @property
    def learned(self) -> bool: ...


class Detector(Protocol):
    """Scores the windows of one stream. Used by one thread at a time."""

    def push(self, rows: Rows) -> Outcome:
        """Take rows in order; raises an AgentError when the model fails."""

    def state(self) -> bytes:
        """Everything that `restore` needs to go on from here."""

    def restore(self, state: bytes) -> None:
        """Go on from a saved state; raises BadPayload when it is of another model or format."""

    def relearn(self) -> None:
        """Forget what is normal; the next rows are the healthy past."""

    def tune(self, settings: AnomalySettings) -> None:
        """Have other settings from the next rows on."""
