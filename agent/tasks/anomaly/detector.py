"""Watches one stream: learns what is normal, then scores every row and says when to worry.

Rows come in any order and any number; `Intake` puts them in order. The first ones are the healthy
past from which `Baseline` is learned. From then on each row ends a window: the model gives the
log-odds that the machine, and that each sensor, shows a fault. The score is the mean of the higher
half of the opinions about the machine, scaled so that 0 is certainly healthy and 1 is the threshold.

Everything between calls is in `State`; saving and restoring at any point changes nothing, which a
property test holds. Nothing here reads a clock.
"""

import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec
import numpy as np

from agent.errors import BadPayload
from agent.tasks.anomaly.alarm import (
    Alarm,
    Direction,
    Edge,
    Hysteresis,
    HysteresisState,
    SensorShare,
)
from agent.tasks.anomaly.baseline import Baseline, Views
from agent.tasks.anomaly.intake import Intake, IntakeState
from agent.tasks.anomaly.model import AnomalyModel, Described, Runnable
from agent.tasks.anomaly.pace import BLOCK_ROWS, Pace, PaceState
from agent.tasks.anomaly.recent import Recent, RecentState
from agent.tasks.anomaly.settings import AnomalySettings
from agent.types import Rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Phase = Literal["learning", "watching"]

FORMAT = 1
MAX_PAST = 1 << 17  # readings of the healthy past: the state holds them until all are there
TOP_SENSORS = 5  # named in an alarm
HEALTHY_QUANTILE = 99.5  # percent of the healthy past that must score below the threshold's margin

_NAMESPACE = uuid.UUID("5b5a5e6e-52a5-4a5b-9d0a-0e0b6c1f9a11")  # of the ids of warnings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one push did.

    Attributes:
        accepted: rows taken into learning or scoring.
        dropped: rows, and values of unknown sensors, that were not taken, by reason.
        times: float64 [m], the scored rows.
        scores: float64 [m]; 1.0 is the threshold.
        shares: float64 [m, k], each sensor's part in the score; rows add up to 1.
        sensors: the k columns.
        alarms: warnings that began or ended, in order.
        phase: after this push.
        progress: how much of the healthy past is known, 0 to 1.
        learned: whether this push completed the learning.
    """

    accepted: int
    dropped: Mapping[str, int]
    times: "Floats"
    scores: "Floats"
    shares: "Floats"
    sensors: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    phase: Phase
    progress: float
    learned: bool


class State(msgspec.Struct):
    """Everything that outlives a call."""

    intake: IntakeState
    recent: RecentState
    hysteresis: HysteresisState
    pace: PaceState
    window: tuple[int, int, int]  # the model's: smooth, points, step
    learning: list[bytes] = []  # rows of the healthy past, float64, as many values as sensors then
    baseline: Baseline | None = None
    threshold: float = 0.0
    format: int = FORMAT


class AnomalyDetector:
    """The detector of one stream. Used by one thread at a time."""

    def __init__(
        self, model: Runnable, manifest: Described, settings: AnomalySettings | None = None
    ) -> None:
        """Start with nothing learned.

        Raises:
            BadManifest: the model is not one of this task.
        """
        self._model = AnomalyModel(model, manifest)
        self._settings = settings or AnomalySettings()
        self._hysteresis: Hysteresis
        self._take_over(self._nothing())

    def push(self, rows: Rows) -> Outcome:
        """Take rows, in any order; score what can be scored.

        Raises:
            EngineFailed: the model failed; this detector must then be restored.
        """
        dropped: Counter[str] = Counter()
        times, values, stepped = self._intake.push(rows, dropped)
        accepted = len(times)
        learned = False
        if self._views is None and accepted:
            used = self._learn(times, values)
            learned = self._views is not None
            times, values = times[used:], values[used:]
        parts, alarms = [], []
        for part in self._scored(times, values, stepped):
            parts.append(part)
            alarms += self._alarms(rows.stream, part)
        return Outcome(
            accepted,
            {reason: count for reason, count in dropped.items() if count},
            *_joined(parts, len(self._intake.sensors)),
            self._intake.sensors,
            tuple(alarms),
            "learning" if self._views is None else "watching",
            self._progress(),
            learned,
        )

    def state(self) -> bytes:
        """Everything that `restore` needs to go on from here."""
        return msgspec.msgpack.encode(
            State(
                self._intake.state,
                self._recent.state(),
                self._hysteresis.state,
                self._pace.state,
                self._window(),
                self._learning,
                self._views.baseline if self._views else None,
                self._threshold,
            )
        )

    def restore(self, state: bytes) -> None:
        """Go on from a saved state.

        Raises:
            BadPayload: it is no state of this format, or was learned with a model of another window;
                nothing has changed.
        """
        before = dict(vars(self))
        try:
            found = msgspec.msgpack.decode(state, type=State)
            if (found.format, found.window) != (FORMAT, self._window()):
                raise BadPayload(f"the state is of format {found.format}, window {found.window}")
            self._take_over(found)
        except (msgspec.MsgspecError, ValueError) as error:  # the second: tables that do not fit
            vars(self).update(before)
            raise BadPayload(f"not a detector's state: {error}") from error

    def relearn(self) -> None:
        """Forget what is normal; the next rows are the healthy past."""
        self._take_over(self._nothing())

    def tune(self, settings: AnomalySettings) -> None:
        """Have other settings from the next rows on; what was learned stays as it was learned."""
        state: HysteresisState = self._hysteresis.state
        self._settings = settings
        self._hysteresis = self._new_hysteresis(state)

    def _new_hysteresis(self, state: HysteresisState) -> Hysteresis:
        s = self._settings
        return Hysteresis(s.raise_rows, s.within_rows, s.clear_score, state, s.raise_score)

    def _window(self) -> tuple[int, int, int]:
        shape = self._model.shape
        return shape.smooth, shape.points, shape.step

    def _nothing(self) -> State:
        return State(IntakeState(), RecentState(), HysteresisState(), PaceState(), self._window())

    def _take_over(self, state: State) -> None:
        settings = self._settings
        self._intake = Intake(settings.lateness_s, state.intake)
        self._recent = Recent(
            self._model.shape.rows - 1, settings.max_gap_s, settings.hold_rows, state.recent
        )
        self._hysteresis = self._new_hysteresis(state.hysteresis)
        self._pace = Pace(settings.follow_rows, state.pace)
        self._learning = state.learning
        self._threshold = state.threshold
        self._views: Views | None = None
        if state.baseline is not None:
            self._views = Views(state.baseline, self._model.shape.smooth)

    def _progress(self) -> float:
        if self._views is not None:
            return 1.0
        return min(1.0, len(self._learning) / self._past_rows())

    # Learning.

    def _learn(self, times: "Floats", values: "Floats") -> int:
        """Add rows to the healthy past; returns how many were used."""
        used = max(0, min(len(values), self._past_rows() - len(self._learning)))
        self._learning += [row.tobytes() for row in values[:used]]
        if len(self._learning) >= self._past_rows():
            self._finish_learning(float(times[max(used - 1, 0)]))
        return used

    def _past_rows(self) -> int:
        """Rows of the healthy past: as configured, or as many as the state may hold."""
        return min(self._settings.learn_rows, MAX_PAST // max(1, len(self._intake.sensors)))

    def _finish_learning(self, last: float) -> None:
        self._intake.fix()
        past = np.full((len(self._learning), len(self._intake.sensors)), np.nan)
        for row, data in zip(past, self._learning, strict=True):
            cells = np.frombuffer(data)
            row[: len(cells)] = cells
        self._learning = []
        smooth = self._model.shape.smooth
        self._views = Views(Baseline.learn(past, smooth), smooth)
        self._threshold = self._own_threshold(self._views.of(self._views.means(past)))
        self._recent.prime(past[1 - self._model.shape.rows :], last)

    def _own_threshold(self, healthy: "Floats") -> float:
        """The model's threshold, raised where this machine's healthy past comes too near."""
        scale = self._model.scale
        opinions = _opinion(self._model.evidence(healthy))
        own = float(np.percentile(opinions, HEALTHY_QUANTILE)) + scale.margin
        threshold = max(scale.threshold, own)
        return scale.zero + (threshold - scale.zero) / self._settings.sensitivity

    # Scoring.

    def _scored(self, times: "Floats", values: "Floats", stepped: bool) -> "Iterator[_Part]":
        if self._views is None or not len(times):
            return
        for run, block in self._recent.push(times, values, stepped):
            ready = len(block) - self._model.shape.rows + 1
            if ready > 0:
                yield from self._by_blocks(self._views, run[-ready:], block)

    def _by_blocks(self, views: Views, times: "Floats", block: "Floats") -> "Iterator[_Part]":
        """Score rows without a gap: [m] times, [h + m, k] rows; the baseline follows between blocks."""
        shape, at = self._model.shape, 0
        past = shape.rows - 1
        rows = block[len(block) - len(times) - past :]
        while at < len(times):
            end = min(len(times), at + self._pace.room)
            part = self._part(views, times[at:end], views.means(rows[at : end + past]))
            yield part  # and come back when the warnings know of it
            step = self._pace.push(part.scores, self._hysteresis.state)
            if step is not None:
                views.follow(
                    part.means[-min(BLOCK_ROWS, shape.span) :], step.share, healthy=step.healthy
                )
            at = end

    def _part(self, views: Views, times: "Floats", means: "Floats") -> "_Part":
        evidence = self._model.evidence(views.of(means))
        zero = self._model.scale.zero
        scores = np.maximum(_opinion(evidence) - zero, 0.0) / (self._threshold - zero)
        blame = np.logaddexp(0.0, evidence[..., 1].astype(np.float64))
        return _Part(times, scores, blame / blame.sum(axis=1, keepdims=True), means)

    # Alarms.

    def _alarms(self, stream: str, part: "_Part") -> list[Alarm]:
        edges = self._hysteresis.push(part.times.tolist(), part.scores.tolist())
        return [self._alarm(stream, part, edge) for edge in edges]

    def _alarm(self, stream: str, part: "_Part", edge: Edge) -> Alarm:
        return Alarm(
            edge.kind,
            str(uuid.uuid5(_NAMESPACE, f"{stream}/{edge.since!r}")),
            float(part.times[edge.row]),
            edge.since,
            float(part.scores[edge.row]),
            edge.peak,
            self._drivers(part, edge.row),
        )

    def _drivers(self, part: "_Part", row: int) -> tuple[SensorShare, ...]:
        """The sensors behind the score of a row, most important first."""
        assert self._views is not None  # nothing is scored before
        baseline = self._views.baseline  # made anew at each look
        shares = part.shares[row]
        means = part.means[row + self._model.shape.span - 1]
        order = np.argsort(-shares, kind="stable")[:TOP_SENSORS].tolist()
        return tuple(self._driver(baseline, i, float(shares[i]), float(means[i])) for i in order)

    def _driver(self, baseline: Baseline, index: int, share: float, mean: float) -> SensorShare:
        value = baseline.location[index] + mean * baseline.scale[index]
        low, high = baseline.low[index], baseline.high[index]
        direction: Direction = "higher" if value > high else "lower" if value < low else "within"
        return SensorShare(self._intake.sensors[index], share, value, low, high, direction)


@dataclass(frozen=True, slots=True)
class _Part:
    """Scores of m rows without a gap, and the trailing means [span - 1 + m, k] they rest on."""

    times: "Floats"
    scores: "Floats"
    shares: "Floats"
    means: "Floats"


def _joined(parts: "list[_Part]", k: int) -> "tuple[Floats, Floats, Floats]":
    """Times, scores and shares of all parts."""
    if len(parts) == 1:
        return parts[0].times, parts[0].scores, parts[0].shares
    nothing = (np.empty(0), np.empty(0), np.empty((0, k)))
    columns = [nothing, *((part.times, part.scores, part.shares) for part in parts)]
    times, scores, shares = (np.concatenate(column) for column in zip(*columns, strict=True))
    return times, scores, shares


def _opinion(evidence: "NDArray[np.float32]") -> "Floats":
    """Mean of the higher half of the opinions about the machine: [m, k, 2] -> [m]."""
    opinions = evidence[..., 0].astype(np.float64)
    top = (opinions.shape[1] + 1) // 2
    return np.asarray(np.partition(opinions, -top, axis=1)[:, -top:].mean(axis=1))
