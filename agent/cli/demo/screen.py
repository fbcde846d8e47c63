"""The live view: a scene as one screen of the terminal. Draws, decides nothing, reads nothing."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.style import Style
from rich.table import Table
from rich.text import Text

from agent.cli.demo.scene import Cause, Scene, Warned, peaks
from agent.ids import short_key

BLOCKS = " ▁▂▃▄▅▆▇█"
FIXED_ROWS = 21  # everything but the chart's own rows
CHART_ROWS = (3, 9)  # least and most
AXIS = 9  # columns left of the chart
CALM, HOT, DIM, GOOD, AWAY = "cyan", "bold red", "bright_black", "green", "yellow"
WARNINGS_SHOWN = 4
SENSORS_SHOWN = 5


def draw(scene: Scene, width: int, height: int, *, solid: bool = False) -> RenderableType:
    """The whole screen for a terminal of `width` by `height` characters.

    `solid` fills the chart with backgrounds instead of blocks: in a picture, glyphs leave gaps.
    """
    rows = min(max(height - FIXED_ROWS, CHART_ROWS[0]), CHART_ROWS[1])
    return Group(
        _header(scene, 20 if width >= 110 else 10),
        _score(scene, max(width - 4, 40), rows, solid=solid),
        _panels(scene, width),
        _warnings(scene),
        Text(f" {scene.narration}", style="italic", overflow="ellipsis", no_wrap=True),
    )


def _header(scene: Scene, bar: int) -> RenderableType:
    done = round(scene.position * bar)
    grid = Table.grid(expand=True)
    grid.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    grid.add_column(justify="right", no_wrap=True, width=bar + 14)
    grid.add_row(
        Text.assemble(
            (" edge-agent ", "bold reverse"), "  ", (scene.stream[:20], "bold"), *_model(scene)
        ),
        Text.assemble(
            ("━" * done, CALM),
            ("━" * (bar - done), DIM),
            (f" {scene.position:4.0%}  {_clock(scene.elapsed_s)} ", DIM),
        ),
    )
    return grid


def _model(scene: Scene) -> Iterable[tuple[str, str]]:
    if scene.model:
        yield " · ", DIM
        yield scene.model, ""
        yield f", signed by {short_key(scene.signers[0])}", DIM


def _score(scene: Scene, width: int, rows: int, *, solid: bool) -> RenderableType:
    columns = width - AXIS
    scores = peaks(scene.points, columns)
    top = max([2.0, *(s for s in scores if not math.isnan(s))])
    lines = [_chart_line(scores, row, rows, top, solid=solid) for row in reversed(range(rows))]
    lines += [_strip("labels", _labelled(scene, columns), "━", "magenta")]
    lines += [_strip("offline", _offline(scene, columns), "━", AWAY)]
    title = Text.assemble(("Anomaly score  ", "bold"), _now(scene))
    return Panel(Group(*lines), title=title, title_align="left", border_style=DIM, padding=(0, 1))


def _now(scene: Scene) -> tuple[str, str]:
    if scene.phase == "learning":
        return f"learning what is normal, {scene.learned:.0%}", AWAY
    if math.isnan(scene.score):
        return "no window yet", DIM
    return f"{scene.score:.2f}", HOT if scene.score >= 1 else CALM


def _chart_line(scores: Sequence[float], row: int, rows: int, top: float, *, solid: bool) -> Text:
    """One row of the chart, counted from the bottom; the threshold is a dotted line."""
    threshold_row = math.ceil(_height(1.0, top) * rows) - 1
    labels = {rows - 1: f"{top:.1f}", threshold_row: "warning", 0: "0"}
    line = Text(labels.get(row, "").rjust(AXIS - 1) + " ", style=DIM, no_wrap=True)
    empty = "┄" if row == threshold_row else " "
    cells = (_cell(score, _height(score, top) * rows - row, empty) for score in scores)
    for style, run in groupby(cells, key=lambda cell: cell[1]):
        text = "".join(character for character, _ in run)
        if solid:
            _append_solid(line, text, style)
        else:
            line.append(text, style)
    return line


def _cell(score: float, filled: float, empty: str) -> tuple[str, str]:
    """One character of the chart, filled so many rows from its own bottom, and its style."""
    eighths = 0 if math.isnan(score) else round(filled * 8)
    if eighths <= 0:
        return empty, DIM
    return BLOCKS[min(eighths, 8)], HOT if score >= 1 else CALM


def _append_solid(line: Text, text: str, style: str) -> None:
    for full, run in groupby(text, key=lambda character: character == BLOCKS[8]):
        characters = "".join(run)
        line.append(
            " " * len(characters) if full else characters,
            Style.parse(style) + Style(bgcolor=Style.parse(style).color) if full else style,
        )


def _height(score: float, top: float) -> float:
    """Where a score is drawn, 0 to 1: the lower half is linear up to the threshold, above it log."""
    if score <= 1:
        return max(score, 0.0) / 2
    return 0.5 + 0.5 * math.log(score) / math.log(max(top, 2.0))


def _strip(label: str, marked: Iterable[bool], mark: str, style: str) -> Text:
    line = Text(label.rjust(AXIS - 1) + " ", style=DIM, no_wrap=True)
    return line.append("".join(mark if on else " " for on in marked), style)


def _labelled(scene: Scene, columns: int) -> list[bool]:
    """Which columns, so far replayed, the recording's author labelled as anomalous."""
    ends = [(scene.position_of(s.start), scene.position_of(s.end)) for s in scene.spans]
    return [_within(i, columns, ends) and i / columns <= scene.position for i in range(columns)]


def _offline(scene: Scene, columns: int) -> list[bool]:
    ends = [(a, scene.position if b is None else b) for a, b in scene.outages]
    return [_within(i, columns, ends) for i in range(columns)]


def _within(column: int, columns: int, spans: Iterable[tuple[float, float]]) -> bool:
    left, right = column / columns, (column + 1) / columns
    return any(start < right and end > left for start, end in spans)


def _panels(scene: Scene, width: int) -> RenderableType:
    grid = Table.grid(expand=True)
    for ratio in (5, 4, 4):
        grid.add_column(ratio=ratio)
    grid.add_row(_sensors(scene, width * 5 // 13 - 4), _device(scene), _cloud(scene))
    return grid


def _sensors(scene: Scene, width: int) -> Panel:
    name_width = min(19, width - 10)
    bar_width = width - name_width - 6  # a percentage and the gaps
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(width=name_width, no_wrap=True, overflow="ellipsis")
    table.add_column(width=bar_width, no_wrap=True)
    table.add_column(justify="right")
    hot = scene.score >= 1
    for cause in scene.causes[:SENSORS_SHOWN]:
        style = HOT if hot and cause.share >= 0.2 else CALM
        table.add_row(
            cause.sensor, Text(_bar(cause.share, bar_width), style), f"{cause.share:4.0%}"
        )
    if not scene.causes:
        table.add_row(Text("no window yet", DIM), "", "")
    return _panel("Which sensor", table)


def _bar(share: float, width: int) -> str:
    return "▆" * max(round(share * width), 1 if share >= 0.01 else 0)


def _device(scene: Scene) -> Panel:
    phase = (
        Text(f"learning normal {scene.learned:.0%}", AWAY)
        if scene.phase == "learning"
        else Text(scene.phase, GOOD if scene.phase == "watching" else DIM)
    )
    return _facts(
        "Device",
        [
            ("phase", phase),
            ("readings", f"{scene.readings:,}"),
            ("readings/s", f"{scene.readings_per_s:,.0f}"),
            ("windows", f"{scene.windows:,}"),
            ("outbox", Text(f"{scene.outbox.queued:,} waiting", AWAY if not scene.link_up else "")),
        ],
    )


def _cloud(scene: Scene) -> Panel:
    link = Text("● up", GOOD) if scene.link_up else Text("○ away", f"bold {AWAY}")
    by_class = scene.received.by_class
    return _facts(
        "Cloud, over MQTT",
        [
            ("broker", link),
            ("telemetry", f"{by_class.get('telemetry', 0):,}"),
            ("escalations", f"{by_class.get('escalation', 0):,}"),
            ("reports", f"{by_class.get('report', 0):,}"),
            ("repeats", Text(f"{scene.received.repeats:,}", DIM)),
        ],
    )


def _facts(title: str, facts: Iterable[tuple[str, RenderableType]]) -> Panel:
    table = Table.grid(expand=True, padding=(0, 1))
    table.add_column(style=DIM, no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for name, value in facts:
        table.add_row(name, value)
    return _panel(title, table)


def _warnings(scene: Scene) -> Panel:
    lines = [warning_line(w) for w in reversed(scene.warnings[-WARNINGS_SHOWN:])]
    if not lines:
        lines = [Text("none", DIM)]
    return _panel("Warnings", Group(*lines), height=WARNINGS_SHOWN + 2)


def warning_line(warning: Warned) -> Text:
    """A warning in one line: when, how far over the threshold, and what drove it."""
    return Text.assemble(
        (f"{_time(warning.time)}  ", DIM),
        (f"{warning.score:5.1f} × ", HOT),
        ("threshold   ", DIM),
        *_causes(warning.causes[:3]),
        no_wrap=True,
        overflow="ellipsis",
    )


def _causes(causes: Sequence[Cause]) -> Iterable[tuple[str, str]]:
    arrows = {"higher": " ↑", "lower": " ↓"}
    for i, cause in enumerate(causes):
        yield (
            (", " if i else "") + cause.sensor + arrows.get(cause.direction, ""),
            "bold" if not i else "",
        )
        yield f" {cause.share:.0%}", DIM


def _panel(title: str, body: RenderableType, height: int = SENSORS_SHOWN + 2) -> Panel:
    return Panel(
        body, title=Text(title, "bold"), title_align="left", border_style=DIM, padding=(0, 1),
        height=height,
    )  # fmt: skip


def _time(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%H:%M:%S}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
