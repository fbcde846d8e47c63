"""One stream: its grid, its detector, its summary, and what a batch of readings makes of them.

Does no I/O: a batch gives messages, events and a state to be committed together, and whoever
commits says afterwards whether it held. Until then a batch can be undone. Used by one thread at a
time.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from agent.errors import AgentError, BadPayload, EngineFailed
from agent.pipelines.align import Aligner
from agent.pipelines.detector import Alarm, Detector, Outcome
from agent.pipelines.entries import Entry, Receipt, Single
from agent.pipelines.messages import Sender, describe
from agent.pipelines.repeats import Seen, digest
from agent.pipelines.saved import FORMAT, Saved, decode
from agent.pipelines.spec import PipelineSpec
from agent.pipelines.summary import advance
from agent.pipelines.waiting import coalesce
from agent.store.cases import Case
from agent.types import Event, Message, Rows

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """How a stream stands.

    Attributes:
        stream: its name.
        pipeline: the pipeline that watches it.
        model: name and version.
        phase: "learning" or "watching".
        progress: how much of the healthy past is known, 0 to 1.
        score: of the newest window, 1.0 is the threshold; None before the first.
        shares: each sensor's part in that score, adding up to 1.
        warning: id of the warning that holds now; empty when there is none.
        warnings: warnings that ever began.
        rows: rows that came.
        readings: single values in them.
        windows: windows scored.
        dropped: rows not taken, by reason.
        last: time of the newest row, seconds since the epoch; None before the first.
    """

    stream: str
    pipeline: str
    model: str
    phase: str
    progress: float
    score: float | None
    shares: Mapping[str, float]
    warning: str
    warnings: int
    rows: int
    readings: int
    windows: int
    dropped: Mapping[str, int]
    last: float | None


@dataclass(slots=True)
class Work:
    """What a batch wants done, all or nothing.

    Attributes:
        messages: rows for the outbox.
        cases: of warnings that begin.
        cleared: ids of warnings that end.
        events: for local listeners, after the commit.
        state: the stream's state, for the same transaction.
        results: one for each entry, in its order.
        rows: rows that came.
        readings: single values in them.
        receipt: of the whole batch.
    """

    messages: list[Message] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    state: bytes = b""
    results: list[Receipt | AgentError] = field(default_factory=list)
    rows: int = 0
    readings: int = 0
    receipt: Receipt = field(default_factory=Receipt)

    def add(self, other: "Work") -> None:
        """Take over what follows, but for its state."""
        self.messages += other.messages
        self.cases += other.cases
        self.cleared += other.cleared
        self.events += other.events
        self.results += other.results
        self.rows += other.rows
        self.readings += other.readings
        self.receipt += other.receipt


class Stream:
    """A stream while it is watched."""

    def __init__(
        self,
        name: str,
        spec: PipelineSpec,
        model: str,
        make: Callable[[PipelineSpec], Detector],
        sender: Sender,
    ) -> None:
        self.name = name
        self.spec = spec
        self._make = make
        self._sender = sender
        self._committed: bytes | None = None
        self._fresh(model)

    @property
    def pending(self) -> bool:
        """Whether single readings wait for their row."""
        return self._grid.pending

    def resume(self, state: bytes) -> None:
        """Go on from a committed state.

        Raises:
            BadPayload: it is of another model or another format; the stream is as new.
        """
        model = self._saved.model
        try:
            self._restore(state)
        except BadPayload:
            self._fresh(model)
            raise
        self._committed = state

    @property
    def committed(self) -> bytes | None:
        """The last committed state; None before the first."""
        return self._committed

    def succeed(self, committed: bytes | None) -> None:
        """Take over what is not the model's from the state of a stream of another model."""
        if committed is None:
            return
        before = decode(committed)
        self._grid.restore(before.grid)
        self._seen = Seen(before.seen)
        for count in ("rows", "readings", "windows", "warnings", "dropped", "last"):
            setattr(self._saved, count, getattr(before, count))
        self._committed = self.snapshot()

    def process(self, entries: Sequence[Entry], *, flush: bool = False) -> Work:
        """Score what came; the stream is changed, until `undo`.

        An entry that fails leaves no trace, and the others are as if it had not come. One that came
        before has no effect again.

        Args:
            entries: in the order of arrival.
            flush: no more single readings are to be waited for.
        """
        digests = [digest(entry.item) for entry in entries]
        new = self._new(digests)
        work = self._score([entries[i] for i in new], flush=flush)
        told = dict(zip(new, work.results, strict=True))
        self._seen.add(digests[i] for i in new if isinstance(told[i], Receipt))
        work.results = [told.get(i) or self._repeat(entry, work) for i, entry in enumerate(entries)]
        work.state = self.snapshot()
        return work

    def commit(self, state: bytes) -> None:
        """What `process` gave is on the disk."""
        self._committed = state

    def undo(self) -> None:
        """Go back to the last committed state."""
        self._go_back(self._committed)

    def tune(self, spec: PipelineSpec) -> None:
        """Go on by other settings of the same pipeline."""
        self.spec = spec
        self._detector.tune(spec.settings)

    def relearn(self) -> tuple[bytes, str]:
        """Forget what is normal; what was counted stays. Changed until `undo`, as by `process`.

        Returns:
            The state to commit, and the id of the warning that held; empty when none did.
        """
        self._detector.relearn()
        saved, warning = self._saved, self._saved.warning
        saved.phase, saved.progress, saved.score = "learning", 0.0, None
        saved.shares, saved.warning = {}, ""
        return self.snapshot(), warning

    def snapshot(self) -> bytes:
        """Everything that `resume` needs to go on from here."""
        self._saved.detector = self._detector.state()
        self._saved.grid = self._grid.state()
        self._saved.seen = self._seen.state()
        return msgspec.msgpack.encode(self._saved)

    def status(self) -> StreamStatus:
        """How the stream stands, with what is not yet committed."""
        s = self._saved
        return StreamStatus(
            self.name, self.spec.name, s.model, s.phase, s.progress, s.score, dict(s.shares), s.warning,
            s.warnings, s.rows, s.readings, s.windows, dict(s.dropped), s.last,
        )  # fmt: skip

    def _fresh(self, model: str) -> None:
        self._detector = self._make(self.spec)
        self._grid = Aligner(self.spec.align)
        self._seen = Seen()
        self._saved = Saved(model=model, detector=b"", grid=b"", seen=b"")

    def _restore(self, state: bytes) -> None:
        saved = decode(state)
        if saved.format != FORMAT or saved.model != self._saved.model:
            raise BadPayload(f"the stream's state is of {saved.model}, format {saved.format}")
        self._detector.restore(saved.detector)
        self._grid.restore(saved.grid)
        self._seen = Seen(saved.seen)
        self._saved = saved

    def _go_back(self, state: bytes | None) -> None:
        self._fresh(self._saved.model)
        if state is not None:
            self._restore(state)

    def _new(self, digests: Sequence[bytes]) -> list[int]:
        """Which entries did not come before, neither earlier nor in this batch."""
        first: dict[bytes, int] = {}
        for number, found in enumerate(digests):
            if found not in self._seen:
                first.setdefault(found, number)
        return list(first.values())

    def _repeat(self, entry: Entry, work: Work) -> Receipt:
        receipt = Receipt(dropped={"repeat": entry.rows})
        work.rows += entry.rows
        work.receipt += receipt
        self._saved.rows += entry.rows
        self._drop(receipt.dropped)
        return receipt

    def _score(self, entries: Sequence[Entry], *, flush: bool) -> Work:
        items, owners = coalesce(entries)
        try:
            work = self._score_all(items, flush=flush)
            work.results = [work.results[owner] for owner in owners]
            return work
        except AgentError as error:
            self.undo()
            if len(entries) <= 1:
                return Work(results=[error for _ in entries])
        return self._score_each([entry.item for entry in entries])

    def _score_all(self, items: Sequence[Rows | Single], *, flush: bool = False) -> Work:
        work = Work()
        for item in items:
            if isinstance(item, Single):
                self._grid.push(item.sensor, item.time, item.value)
                work.results.append(Receipt())
            else:
                work.results.append(self._push(item, work))
        rows = self._grid.take(self.name, everything=flush)
        if rows is not None:
            self._push(rows, work)
        return work

    def _score_each(self, items: Sequence[Rows | Single]) -> Work:
        """Again, none joined with another, so that the failing ones fail alone."""
        whole = Work()
        state = self._committed
        for item in items:
            try:
                part = self._score_all([item])
            except AgentError as error:
                self._go_back(state)
                whole.results.append(error)
            else:
                state = self.snapshot()
                whole.add(part)
        return whole

    def _push(self, rows: Rows, work: Work) -> Receipt:
        outcome = self._scored(rows)
        receipt = Receipt(
            outcome.accepted,
            dict(outcome.dropped),
            len(outcome.scores),
            sum(alarm.kind == "raised" for alarm in outcome.alarms),
        )
        work.rows += len(rows)
        work.readings += rows.readings
        work.receipt += receipt
        self._note(rows, outcome, receipt)
        self._report(rows, outcome, work)
        return receipt

    def _scored(self, rows: Rows) -> Outcome:
        try:
            return self._detector.push(rows)
        except AgentError:
            raise
        except Exception as error:
            _log.exception("the detector failed", extra={"stream": self.name})
            raise EngineFailed("the detector failed on these rows", where=self.name) from error

    def _note(self, rows: Rows, outcome: Outcome, receipt: Receipt) -> None:
        """Bring the status up to date."""
        saved = self._saved
        saved.phase, saved.progress = outcome.phase, float(outcome.progress)
        saved.rows += len(rows)
        saved.readings += rows.readings
        saved.windows += receipt.windows
        saved.warnings += receipt.warnings
        saved.last = float(rows.time[-1])
        self._drop(receipt.dropped)
        for alarm in outcome.alarms:
            saved.warning = alarm.id if alarm.kind == "raised" else ""
        if len(outcome.scores):
            saved.score = float(outcome.scores[-1])
            saved.shares = dict(zip(outcome.sensors, outcome.shares[-1].tolist(), strict=True))

    def _drop(self, dropped: Mapping[str, int]) -> None:
        counts = self._saved.dropped
        for reason, number in dropped.items():
            counts[reason] = counts.get(reason, 0) + number

    def _report(self, rows: Rows, outcome: Outcome, work: Work) -> None:
        """What the batch sends, in the order in which it happened."""
        name, model = self.name, self._saved.model
        if outcome.learned:
            at = float(rows.time[-1])
            work.messages.append(self._sender.learned(name, model, at))
            work.events.append(self._event("stream.learned", {"at": at}))
        for alarm in outcome.alarms:
            message = self._sender.alarm(name, model, alarm)
            work.messages.append(message)
            self._note_case(rows, message, alarm, work)
            work.events.append(self._event(f"anomaly.{alarm.kind}", describe(alarm)))
        self._saved.summary, ended = advance(
            self._saved.summary, self.spec.summary_every_s, rows, outcome
        )
        work.messages += [self._sender.summary(name, model, part, outcome) for part in ended]
        work.events.append(self._event("stream.scored", _progress(rows, outcome, self._saved)))

    def _note_case(self, rows: Rows, message: Message, alarm: Alarm, work: Work) -> None:
        """A warning that begins is a case for a person; one that ends closes it."""
        if alarm.kind == "raised":
            found = digest(rows).hex()
            work.cases.append(self._sender.case(message, self._saved.model, alarm, found))
        else:
            work.cleared.append(alarm.id)

    def _event(self, kind: str, data: Mapping[str, Any]) -> Event:
        head = {"stream": self.name, "pipeline": self.spec.name, "model": self._saved.model}
        return Event(kind, self._sender.clock.wall(), {**head, **data})


def _progress(rows: Rows, outcome: Outcome, saved: Saved) -> dict[str, Any]:
    scores = outcome.scores
    return {
        "at": float(rows.time[-1]),
        "rows": len(rows),
        "readings": rows.readings,
        "windows": len(scores),
        "phase": outcome.phase,
        "progress": float(outcome.progress),
        "score": float(scores[-1]) if len(scores) else None,
        "highest": float(scores.max()) if len(scores) else None,
        "shares": saved.shares if len(scores) else {},
    }
