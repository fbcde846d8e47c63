"""The demo without a terminal: a line for each thing that happens."""

from agent.cli.demo.scene import Cause, Outbox, Point, Received, Scene, Warned
from agent.cli.demo.stage import Lines

CAUSES = (Cause("vibration", 0.7, "higher"),)


def test_each_warning_is_one_line() -> None:
    written: list[str] = []
    lines, scene = Lines(written.append), Scene("pump-1")
    scene.warnings.append(Warned(60.0, 2.5, CAUSES))
    lines.show(scene)
    lines.show(scene)
    assert [line for line in written if "WARNING" in line] == [
        "00:00  WARNING at 00:01:00: 2.5 x the threshold, vibration higher (70%)"
    ]


def test_what_is_going_on_is_said_when_it_changes() -> None:
    written: list[str] = []
    lines, scene = Lines(written.append), Scene("pump-1")
    for narration in ("one", "one", "two"):
        scene.narration = narration
        lines.show(scene)
    assert written == ["00:00  one", "00:00  two"]


def test_progress_is_a_line_now_and_then() -> None:
    written: list[str] = []
    lines, scene = Lines(written.append), Scene("pump-1", rows=100, rows_sent=50)
    scene.points, scene.phase = [Point(0.5, 0.25)], "watching"
    scene.outbox, scene.received = Outbox(queued=4), Received({"telemetry": 9})
    for second in range(11):
        scene.elapsed_s = float(second)
        lines.show(scene)
    assert len(written) == 3
    assert "50%  watching, score 0.25" in written[0]
    assert "4 waiting, 9 at the cloud; broker away" in written[0]
