"""A detector small enough to check by hand, and models for it.

It learns each sensor's mean over its first rows, then scores each row by the largest distance from
it, over `LIMIT`. Rows that do not come later than the last one are dropped. It can be told to fail.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from agent.errors import AgentError, BadPayload, NotFound
from agent.tasks.anomaly.settings import AnomalySettings
from agent.types import ModelRef, Rows

LEARN_ROWS = 10
LIMIT = 5.0


@dataclass(frozen=True)
class FakeShare:
    name: str
    share: float
    value: float
    low: float
    high: float
    direction: str


@dataclass(frozen=True)
class FakeAlarm:
    kind: Literal["raised", "cleared"]
    id: str
    time: float
    since: float
    score: float
    peak: float
    sensors: tuple[FakeShare, ...]


@dataclass(frozen=True)
class FakeOutcome:
    accepted: int
    dropped: dict[str, int]
    times: NDArray[np.float64]
    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    sensors: tuple[str, ...]
    alarms: tuple[FakeAlarm, ...]
    phase: Literal["learning", "watching"]
    progress: float
    learned: bool


class _State(msgspec.Struct):
    sensors: list[str] = []
    learned: int = 0
    total: list[float] = []
    last: float = -1.0
    since: float | None = None
    peak: float = 0.0
    alarms: int = 0


@dataclass
class FakeDetector:
    """One stream's detector; `before_push` may raise what a real one might."""

    before_push: Callable[[Rows], None] = lambda _: None
    pushed: list[Rows] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._state = _State()

    def push(self, rows: Rows) -> FakeOutcome:
        self.before_push(rows)
        self.pushed.append(rows)
        s = self._state
        if not s.sensors:
            s.sensors, s.total = list(rows.sensors), [0.0] * len(rows.sensors)
        before = s.learned
        scored, alarms, dropped = [], [], 0
        for time, values in zip(rows.time.tolist(), self._columns(rows), strict=True):
            if time <= s.last:
                dropped += 1
                continue
            s.last = time
            if s.learned < LEARN_ROWS:
                s.total = (np.array(s.total) + values).tolist()
                s.learned += 1
                continue
            distance = np.abs(values - np.array(s.total) / LEARN_ROWS) / LIMIT
            scored.append((time, float(distance.max()), distance / max(distance.sum(), 1e-9)))
            alarms += self._alarms(time, values, float(distance.max()))
        return FakeOutcome(
            accepted=len(rows) - dropped,
            dropped={"not_later": dropped} if dropped else {},
            times=np.array([t for t, _, _ in scored]),
            scores=np.array([score for _, score, _ in scored]),
            shares=np.array([share for _, _, share in scored]).reshape(-1, len(s.sensors)),
            sensors=tuple(s.sensors),
            alarms=tuple(alarms),
            phase="watching" if s.learned >= LEARN_ROWS else "learning",
            progress=s.learned / LEARN_ROWS,
            learned=before < LEARN_ROWS <= s.learned,
        )

    def _columns(self, rows: Rows) -> NDArray[np.float64]:
        """In the order of the first rows; unknown sensors are left out, missing ones are zero."""
        table = np.zeros((len(rows), len(self._state.sensors)))
        for column, name in enumerate(self._state.sensors):
            if name in rows.sensors:
                table[:, column] = np.nan_to_num(rows.values[:, rows.sensors.index(name)])
        return table

    def state(self) -> bytes:
        return msgspec.msgpack.encode(self._state)

    def tune(self, settings: AnomalySettings) -> None:
        self.settings = settings

    def relearn(self) -> None:
        self._state = _State()

    def restore(self, state: bytes) -> None:
        try:
            self._state = msgspec.msgpack.decode(state, type=_State)
        except msgspec.MsgspecError as error:
            raise BadPayload("not a state") from error

    def _alarms(self, time: float, values: NDArray[np.float64], score: float) -> list[FakeAlarm]:
        s = self._state
        if (score > 1) == (s.since is not None):
            s.peak = max(s.peak, score)
            return []
        kind: Literal["raised", "cleared"] = "raised" if score > 1 else "cleared"
        if kind == "raised":
            s.since, s.peak, s.alarms = time, score, s.alarms + 1
        since = time if s.since is None else s.since
        if kind == "cleared":
            s.since = None
        shares = [
            FakeShare(name, 1 / len(s.sensors), float(value), 0.0, 1.0, "higher")
            for name, value in zip(s.sensors, values, strict=True)
        ]
        return [FakeAlarm(kind, f"alarm-{s.alarms}", time, since, score, s.peak, tuple(shares))]


@dataclass(frozen=True)
class FakeModel:
    ref: ModelRef

    def hold(self) -> AbstractContextManager[None]:
        return nullcontext()


@dataclass
class FakeModels:
    """Models by name; those in `errors` cannot be loaded."""

    versions: dict[str, str] = field(default_factory=lambda: {"pump": "1.0.0"})
    errors: dict[str, AgentError] = field(default_factory=dict)
    loaded: dict[str, FakeModel] = field(default_factory=dict)

    def peek(self, name: str, version: str | None = None) -> Any:
        return self.loaded.get(name)

    async def get(self, name: str, version: str | None = None) -> Any:
        if name in self.errors:
            raise self.errors[name]
        if name not in self.versions:
            raise NotFound("no such model", where=name)
        ref = ModelRef(name, self.versions[name])
        if name not in self.loaded or self.loaded[name].ref != ref:
            self.loaded[name] = FakeModel(ref)
        return self.loaded[name]
