"""What the demo showed, as facts that a person can check. Pure: facts in, verdict and text out."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from agent.cli.demo.scene import Cause, Scene, Span, Warned
from agent.ids import key_names

DRIVERS_NAMED = 2  # sensors named with a warning
GRACE_S = 60.0  # a warning this long after a labelled stretch still belongs to it, seconds


@dataclass(frozen=True, slots=True)
class Finding:
    """A labelled stretch of the recording.

    Attributes:
        span: the stretch.
        warning: the first that was raised in it, None when there was none.
        before: one that held already when the stretch began.
    """

    span: Span
    warning: Warned | None
    before: Warned | None = None

    @property
    def delay_s(self) -> float | None:
        """From the first labelled row to the warning, seconds of the recording."""
        return None if self.warning is None else self.warning.time - self.span.start


@dataclass(frozen=True, slots=True)
class Ledger:
    """Where every message is: counted by the device, checked against what the cloud holds.

    Attributes:
        queued: written to the device's outbox.
        delivered: acknowledged by the broker, as the device counts.
        received: distinct messages at the cloud.
        waiting: still in the outbox when the daemon had stopped.
        evicted: given up because the outbox was full or the message expired, and counted.
    """

    queued: int
    delivered: int
    received: int
    waiting: int
    evicted: int
    repeats: int

    @property
    def lost(self) -> int:
        """Messages that are nowhere: neither at the cloud, nor waiting, nor counted as given up."""
        return max(self.queued - self.received - self.waiting - self.evicted, 0)


@dataclass(frozen=True, slots=True)
class Summary:
    """The end of a demo."""

    scene: Scene
    findings: tuple[Finding, ...]
    unlabelled: tuple[Warned, ...]
    ledger: Ledger
    interrupted: bool = False

    @property
    def exit_status(self) -> int:
        """0 when nothing was lost, 1 when something was, 130 when the spectator left early."""
        if self.interrupted:
            return 130
        return 1 if self.ledger.lost else 0


def summarize(scene: Scene, ledger: Ledger, *, interrupted: bool = False) -> Summary:
    """Compare the warnings with the recording's own labels, as far as it was replayed."""
    replayed = [span for span in scene.spans if scene.position_of(span.start) < scene.position]
    findings, unlabelled = match(replayed, scene.warnings)
    return Summary(scene, findings, unlabelled, ledger, interrupted)


def match(
    spans: Sequence[Span], warnings: Sequence[Warned]
) -> tuple[tuple[Finding, ...], tuple[Warned, ...]]:
    """Each labelled stretch with its first warning, and the warnings that belong to none."""
    firsts: dict[Span, Warned] = {}
    unlabelled = []
    for warning in sorted(warnings, key=lambda w: w.time):
        owner = next((s for s in spans if s.start <= warning.time <= s.end + GRACE_S), None)
        if owner is None:
            unlabelled.append(warning)
        else:
            firsts.setdefault(owner, warning)
    findings = (Finding(span, firsts.get(span), _holding(warnings, span.start)) for span in spans)
    return tuple(findings), tuple(unlabelled)


def _holding(warnings: Iterable[Warned], time: float) -> Warned | None:
    return next((w for w in warnings if w.time < time <= w.cleared), None)


def to_dict(summary: Summary) -> dict[str, Any]:
    """The summary for scripts."""
    scene, ledger = summary.scene, summary.ledger
    return {
        "model": {"name": scene.model, "signers": list(scene.signers)},
        "readings": scene.readings,
        "rows": scene.rows_sent,
        "windows": scene.windows,
        "dropped": dict(scene.dropped),
        "labelled": [
            asdict(f.span) | {"warned": f.warning is not None, "delay_s": f.delay_s}
            for f in summary.findings
        ],
        "warnings": [asdict(w) for w in scene.warnings],
        "warnings_outside_labels": len(summary.unlabelled),
        "messages": asdict(ledger) | {"lost": ledger.lost},
        "interrupted": summary.interrupted,
    }


def lines(summary: Summary) -> list[str]:
    """The summary for a person, one fact a line."""
    scene, ledger = summary.scene, summary.ledger
    return [
        f"Model     {scene.model}, signed by {key_names(scene.signers)}",
        f"Readings  {scene.readings:,} in {scene.rows_sent:,} rows{_dropped(scene)}",
        f"Windows   {scene.windows:,} scored",
        *_warnings(summary),
        f"Messages  {_account(ledger)}",
        f"Lost      {ledger.lost:,}",
    ]


def _account(ledger: Ledger) -> str:
    counts = {
        "queued": ledger.queued,
        "at the cloud": ledger.received,
        "waiting": ledger.waiting,
        "evicted": ledger.evicted,
    }
    text = ", ".join(f"{count:,} {what}" for what, count in counts.items())
    repeats = "1 repeat" if ledger.repeats == 1 else f"{ledger.repeats:,} repeats"
    return f"{text}; {repeats} dropped"


def _dropped(scene: Scene) -> str:
    reasons = [f"{count:,} {reason}" for reason, count in scene.dropped.items() if count]
    return f" ({', '.join(reasons)} dropped)" if reasons else ""


def _warnings(summary: Summary) -> Iterable[str]:
    labelled = len(summary.findings)
    found = sum(f.warning is not None for f in summary.findings)
    head = f"Warnings  {len(summary.scene.warnings):,} raised"
    if labelled:
        head += f"; {found} of {labelled} labelled stretches found"
        head += f", {len(summary.unlabelled)} outside them"
    yield head
    for finding in summary.findings:
        yield f"          {clock(finding.span.start)}  {_finding(finding)}"
        if finding.warning is not None:
            yield f"                    {drivers(finding.warning)}"
    for warning in summary.unlabelled if labelled else ():
        yield f"          {clock(warning.time)}  outside the labels"
        yield f"                    {drivers(warning)}"


def _finding(finding: Finding) -> str:
    name = finding.span.name or "labelled stretch"
    if finding.warning is not None:
        return f"{name}: warned after {finding.delay_s:.0f} s"
    if finding.before is not None:
        return f"{name}: the warning of {clock(finding.before.time)} held already"
    return f"{name}: no warning"


def drivers(warning: Warned) -> str:
    """The sensors that drove a warning, for example ``vibration higher (62%), flow lower (18%)``."""
    return ", ".join(_driver(cause) for cause in warning.causes[:DRIVERS_NAMED])


def _driver(cause: Cause) -> str:
    direction = f" {cause.direction}" if cause.direction in {"higher", "lower"} else ""
    return f"{cause.sensor}{direction} ({cause.share:.0%})"


def clock(seconds: float) -> str:
    """A moment of the recording as its own clock shows it."""
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"
