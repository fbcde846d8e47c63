"""Plots as inline SVG: bars that compare, nothing that needs a library. Pure."""

from collections.abc import Sequence
from html import escape

from tools.quantize.family import CLEAN_DB
from tools.quantize.report import Outcome, Report
from tools.quantize.terminal import size as in_units

WIDTH, BAR, GAP, LABEL = 720, 18, 6, 230  # pixels
FLOAT, MADE, BAD = "#8fa3b8", "#1f6fb2", "#c04a3a"
LAYERS_DRAWN = 12

Bar = tuple[str, float, str, str]  # label, value, its text, colour


def figures(report: Report) -> list[str]:
    """The plots of a report, each a heading and an SVG."""
    outcomes = [*([report.original] if report.original else []), *report.tried]
    timed = [outcome for outcome in outcomes if outcome.figures.runs]
    shown = report.result or (report.tried[-1] if report.tried else None)
    return [
        _figure("Size", [_size(o, report) for o in outcomes if o.figures.size]),
        _figure(f"{_metric(shown)} of each that was tried", _tried(outcomes, shown, report)),
        _figure(f"Median time per {report.unit}", [_time(o, report) for o in timed]),
        _figure(f"{_metric(shown)} by slice, before and after", _scores(report, shown)),
        _figure("Signal to the noise that a layer adds, worst layers", _layers(shown)),
    ]


def _metric(outcome: Outcome | None) -> str:
    """The one that decides, as a heading begins."""
    name = outcome.scores[0].metric if outcome and outcome.scores else "score"
    return name[:1].upper() + name[1:]


def _figure(title: str, bars: Sequence[Bar]) -> str:
    if not bars:
        return ""
    return f"<h2>{escape(title)}</h2>\n{chart(bars)}"


def chart(bars: Sequence[Bar]) -> str:
    """Horizontal bars on a common scale that starts at 0; negative values draw no bar."""
    height = len(bars) * (BAR + GAP)
    largest = max((value for _, value, _, _ in bars), default=0.0) or 1.0
    rows = [_row(index, bar, largest) for index, bar in enumerate(bars)]
    return (
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'font-family="system-ui,sans-serif" font-size="12">{"".join(rows)}</svg>'
    )


def _row(index: int, bar: Bar, largest: float) -> str:
    label, value, text, colour = bar
    top = index * (BAR + GAP)
    length = max(0.0, (WIDTH - LABEL - 110) * value / largest) if largest > 0 else 0.0
    middle = top + BAR / 2 + 4
    return (
        f'<text x="{LABEL - 8}" y="{middle:g}" text-anchor="end">{escape(_short(label))}</text>'
        f'<rect x="{LABEL}" y="{top}" width="{length:.1f}" height="{BAR}" fill="{colour}"/>'
        f'<text x="{LABEL + length + 6:.1f}" y="{middle:g}">{escape(text)}</text>'
    )


def _short(label: str) -> str:
    return label if len(label) <= 34 else f"…{label[-33:]}"


def _colour(outcome: Outcome, report: Report) -> str:
    if outcome is report.original:
        return FLOAT
    return BAD if outcome.rejected else MADE


def _size(outcome: Outcome, report: Report) -> Bar:
    size = outcome.figures.size
    return outcome.recipe, size, in_units(size), _colour(outcome, report)


def _tried(outcomes: Sequence[Outcome], shown: Outcome | None, report: Report) -> list[Bar]:
    """What decided between them, over the whole set; of one there is nothing to compare."""
    if len(report.tried) < 2 or shown is None or not shown.scores:
        return []
    metric = shown.scores[0].metric
    return [
        (outcome.recipe, score.value, f"{score.value:.4g}", _colour(outcome, report))
        for outcome in outcomes
        for score in outcome.scores
        if score.metric == metric and score.slice == "all"
    ]


def _time(outcome: Outcome, report: Report) -> Bar:
    time = outcome.figures.p50_ms
    return outcome.recipe, time, f"{time:.3g} ms", _colour(outcome, report)


def _scores(report: Report, shown: Outcome | None) -> list[Bar]:
    if shown is None or not shown.scores:
        return []
    metric = shown.scores[0].metric
    before = {
        s.slice: s
        for s in (report.original.scores if report.original else ())
        if s.metric == metric
    }
    bars: list[Bar] = []
    for score in (s for s in shown.scores if s.metric == metric):
        if old := before.get(score.slice):
            bars.append((f"{score.slice}, before", old.value, f"{old.value:.4g}", FLOAT))
        bars.append((f"{score.slice}, after", score.value, f"{score.value:.4g}", MADE))
    return bars


def _layers(shown: Outcome | None) -> list[Bar]:
    if shown is None:
        return []
    return [
        (layer.name, max(value, 0.0), f"{value:.1f} dB", MADE)
        for layer in shown.layers[:LAYERS_DRAWN]
        for value in [layer.sqnr_db if layer.own_db is None else layer.own_db]
        if value < CLEAN_DB
    ]
