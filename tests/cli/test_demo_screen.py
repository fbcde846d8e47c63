"""The demo's view: it fits every terminal, and shows what a spectator must see."""

import io
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from agent.cli.demo.painter import Painter, svg
from agent.cli.demo.scene import Cause, Outbox, Point, Received, Scene, Span, Warned
from agent.cli.demo.screen import draw

CAUSES = (Cause("vibration of the far bearing", 0.7, "higher"), Cause("flow", 0.3, "lower"))


def scene(**changes: object) -> Scene:
    made = Scene("pump-1", model="pump-anomaly 1.0.0", signers=("ab12cd34ef",), rows=1000)
    made.first, made.last = 0.0, 1000.0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def drawn(made: Scene, width: int = 100, height: int = 30) -> list[str]:
    console = Console(width=width, height=height, file=io.StringIO(), color_system=None)
    console.print(draw(made, width, height))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


@given(
    width=st.integers(80, 220),
    height=st.integers(24, 70),
    scores=st.lists(st.floats(0, 1e6) | st.just(math.nan), max_size=50),
    names=st.lists(st.text(st.characters(categories=["L", "Zs"]), max_size=60), max_size=8),
)
@settings(max_examples=50, deadline=None)
def test_the_view_fits_the_terminal(
    width: int, height: int, scores: list[float], names: list[str]
) -> None:
    """Whatever the scores and however long the names, no line is too long and none too many."""
    points = [Point(i / 50, score) for i, score in enumerate(scores)]
    causes = tuple(Cause(name, 0.5, "higher") for name in names)
    warnings = [Warned(0.0, 2.0, causes)] * 9
    made = scene(points=points, causes=causes, warnings=warnings, narration="x" * 300)
    lines = drawn(made, width, height)
    assert len(lines) <= height
    assert max(cell_len(line) for line in lines) <= width


def test_a_score_over_the_threshold_stands_over_the_warning_line() -> None:
    calm = drawn(scene(points=[Point(0.5, 0.4)]))
    hot = drawn(scene(points=[Point(0.5, 1.9)]))
    line = next(i for i, text in enumerate(calm) if "warning ┄" in text)
    assert not any("█" in text for text in calm[2:line])
    assert any(set(text) & set("▁▂▃▄▅▆▇█") for text in hot[2:line])


def test_the_sensor_that_drove_the_score_has_the_longest_bar() -> None:
    lines = drawn(scene(points=[Point(0.1, 2.0)], causes=CAUSES))
    bars = {
        name: line.count("▆") for line in lines for name in ("vibration", "flow") if name in line
    }
    assert bars["vibration"] > bars["flow"] > 0


def test_labels_ahead_of_the_replay_are_not_given_away() -> None:
    spans = (Span("", 100, 200), Span("", 800, 900))
    early = next(line for line in drawn(scene(spans=spans, rows_sent=300)) if "labels" in line)
    late = next(line for line in drawn(scene(spans=spans, rows_sent=1000)) if "labels" in line)
    assert 0 < early.count("━") < late.count("━")


@pytest.mark.parametrize(("up", "word"), [(True, "● up"), (False, "○ away")])
def test_the_broker_is_shown(up: bool, word: str) -> None:
    text = "\n".join(drawn(scene(link_up=up, outbox=Outbox(queued=34))))
    assert word in text
    assert "34 waiting" in text


def test_model_signer_and_what_the_cloud_received_are_shown() -> None:
    text = "\n".join(drawn(scene(received=Received({"telemetry": 1234, "escalation": 7}))))
    assert "pump-anomaly 1.0.0" in text
    assert "ab12cd34" in text
    assert "1,234" in text


def test_the_picture_fetches_nothing() -> None:
    """A picture in a README must draw without asking another host for a font."""
    drawing = svg(scene(points=[Point(0.5, 2.0)]))
    assert "url(" not in drawing.replace("url(#", "")


def test_the_picture_is_of_the_most_telling_moment(tmp_path: Path) -> None:
    """With the broker away, a warning that holds, and the score at its highest."""
    path = tmp_path / "demo.svg"
    warned = [Warned(0.0, 2.0, CAUSES)]
    with Painter(path, live=False) as painter:
        for score, up in ((2.25, False), (9.75, True), (1.5, False)):
            painter.show(scene(warnings=warned, points=[Point(0.5, score)], link_up=up))
    assert "2.25" in path.read_text()
    assert "9.75" not in path.read_text()
