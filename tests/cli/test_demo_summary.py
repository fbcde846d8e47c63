"""The demo's summary: warnings against labels, and an account of every message."""

import math

from hypothesis import given
from hypothesis import strategies as st

from agent.cli.demo.scene import Cause, Point, Scene, Span, Warned, peaks
from agent.cli.demo.summary import GRACE_S, Ledger, Summary, lines, match, summarize, to_dict

CAUSES = (Cause("vibration", 0.62, "higher"), Cause("flow", 0.18, "lower"), Cause("current", 0.1))
CAVITATION = Span("cavitation", 1000.0, 1100.0)
BEARING = Span("bearing wear", 2000.0, 2300.0)


def warned(time: float) -> Warned:
    return Warned(time, 2.5, CAUSES)


def replayed(**fields: object) -> Scene:
    """A recording of 4,000 s that was replayed to its end."""
    scene = Scene("pump-1", rows=4000, rows_sent=4000, first=0.0, last=4000.0)
    for name, value in fields.items():
        setattr(scene, name, value)
    return scene


def ledger(queued: int = 10, received: int = 10, waiting: int = 0, evicted: int = 0) -> Ledger:
    return Ledger(queued, received, received, waiting, evicted, repeats=0)


def test_a_stretch_is_found_by_its_first_warning() -> None:
    findings, outside = match([CAVITATION, BEARING], [warned(2100), warned(2012), warned(1001)])
    assert [f.delay_s for f in findings] == [1.0, 12.0]
    assert outside == ()


def test_a_stretch_without_a_warning_is_not_found() -> None:
    findings, _ = match([CAVITATION, BEARING], [warned(1001)])
    assert findings[1].warning is None
    assert findings[1].delay_s is None


def test_a_warning_belongs_to_a_stretch_until_the_grace_is_over() -> None:
    late, too_late = warned(CAVITATION.end + GRACE_S), warned(CAVITATION.end + GRACE_S + 1)
    findings, outside = match([CAVITATION], [late, too_late])
    assert findings[0].warning == late
    assert outside == (too_late,)


def test_a_warning_before_a_stretch_is_outside_it() -> None:
    _, outside = match([CAVITATION], [warned(999.0)])
    assert len(outside) == 1


def test_a_warning_that_held_already_finds_no_stretch() -> None:
    """A false alarm that never ends must not take the credit for what comes after it."""
    early = warned(500.0)
    findings, outside = match([CAVITATION], [early])
    assert findings[0].warning is None
    assert findings[0].before == early
    assert outside == (early,)


def test_a_warning_that_ended_before_a_stretch_does_not_hold_in_it() -> None:
    ended = Warned(500.0, 2.0, CAUSES, cleared=900.0)
    findings, _ = match([CAVITATION], [ended])
    assert findings[0].before is None


@given(st.lists(st.floats(0, 4000, allow_nan=False)))
def test_no_warning_is_forgotten(times: list[float]) -> None:
    """Every warning is outside all labels, or within a stretch that counts as found."""
    findings, outside = match([CAVITATION, BEARING], [warned(t) for t in times])
    inside = [t for t in times if any(f.span.start <= t <= f.span.end + GRACE_S for f in findings)]
    assert len(outside) + len(inside) == len(times)
    assert any(f.warning for f in findings) == bool(inside)


def test_nothing_is_lost_while_every_message_is_somewhere() -> None:
    assert ledger(queued=10, received=6, waiting=3, evicted=1).lost == 0
    assert Summary(Scene("p"), (), (), ledger(10, 6, 3, 1)).exit_status == 0


def test_a_message_that_is_nowhere_fails_the_demo() -> None:
    account = ledger(queued=10, received=6, waiting=3)
    assert account.lost == 1
    assert Summary(Scene("p"), (), (), account).exit_status == 1


def test_leaving_early_has_the_status_of_an_interrupt() -> None:
    assert summarize(Scene("p"), ledger(), interrupted=True).exit_status == 130


def test_a_stretch_that_was_not_reached_is_not_missed() -> None:
    scene = replayed(rows_sent=1500, spans=(CAVITATION, BEARING))
    assert [f.span for f in summarize(scene, ledger()).findings] == [CAVITATION]


def test_the_text_names_model_signer_stretches_and_sensors() -> None:
    scene = replayed(model="pump-anomaly 1.0.0", signers=("ab12cd34" * 8,))
    scene.spans = (CAVITATION, BEARING)
    scene.warnings = [Warned(1012.0, 2.5, CAUSES, cleared=1200.0)]
    text = "\n".join(lines(summarize(scene, ledger())))
    assert "pump-anomaly 1.0.0, signed by key ab12cd34\n" in text
    assert "1 of 2 labelled stretches found" in text
    assert "00:16:40  cavitation: warned after 12 s" in text
    assert "vibration higher (62%), flow lower (18%)" in text
    assert "bearing wear: no warning" in text
    assert "Lost      0" in text


def test_the_json_carries_the_account() -> None:
    scene = replayed(model="pump-anomaly 1.0.0")
    scene.spans, scene.warnings = (CAVITATION,), [warned(1012)]
    document = to_dict(summarize(scene, ledger(10, 7, 2)))
    assert document["messages"]["lost"] == 1
    assert document["labelled"][0]["delay_s"] == 12.0


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 50))), st.integers(1, 200))
def test_peaks_keep_the_highest_score(points: list[tuple[float, float]], columns: int) -> None:
    """However narrow the chart, the highest score of the run is on it."""
    drawn = peaks([Point(position, score) for position, score in points], columns)
    assert len(drawn) == columns
    highest = max((score for _, score in points), default=None)
    assert max((s for s in drawn if not math.isnan(s)), default=None) == highest
