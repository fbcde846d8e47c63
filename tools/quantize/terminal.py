"""The report as text: with rich where it is installed and there is a terminal, else plain."""

import sys
from collections.abc import Sequence
from textwrap import shorten

from tools.quantize.family import CLEAN_DB
from tools.quantize.report import Outcome, Report

LAYERS_SHOWN = 5
NOTE = 160  # characters of a note


def show(report: Report) -> None:
    """Print the report to standard output."""
    for title, head, rows in tables(report):
        _print_table(title, head, rows)
    for line in remarks(report):
        print(line)


Table = tuple[str, Sequence[str], Sequence[Sequence[str]]]


def tables(report: Report) -> list[Table]:
    """Costs of every model; then scores by slice and worst layers of the one that matters."""
    found = [_costs(report)]
    shown = report.result or (report.tried[-1] if report.tried else None)
    if shown and shown.scores:
        found.append(_scores(report, shown))
    if shown and shown.layers:
        rows = [
            (layer.name, layer.operator, _decibels(layer.own_db), _decibels(layer.sqnr_db))
            for layer in shown.layers[:LAYERS_SHOWN]
        ]
        title = f"Largest quantization error ({shown.recipe})"
        found.append((title, ("layer", "operator", "its own noise", "with noise before it"), rows))
    return found


def _costs(report: Report) -> Table:
    outcomes = [*([report.original] if report.original else []), *report.tried]
    head = ("model", "size", "of float", "weights", f"p50 per {report.unit}", "p99", "memory", "")
    rows = [_cost(outcome, report) for outcome in outcomes]
    return (f"{report.source} ({report.family})", head, rows)


def _cost(outcome: Outcome, report: Report) -> Sequence[str]:
    figures = outcome.figures
    whole = report.original.figures.size if report.original else 0
    share = f"{figures.size / whole:.1%}" if whole and figures.size else ""
    timed = bool(figures.runs)
    verdict = "chosen" if outcome.recipe == report.chosen else outcome.rejected
    return (
        outcome.recipe,
        size(figures.size) if figures.size else "",
        share,
        f"{figures.parameters:,}" if figures.parameters else "",
        f"{figures.p50_ms:.3g} ms" if timed else "",
        f"{figures.p99_ms:.3g} ms" if timed else "",
        size(figures.peak_memory) if timed else "",
        verdict,
    )


def _scores(report: Report, shown: Outcome) -> Table:
    before = {(s.metric, s.slice): s for s in (report.original.scores if report.original else ())}
    rows = []
    for score in shown.scores:
        old = before.get((score.metric, score.slice))
        rows.append(
            (
                score.metric,
                score.slice,
                str(score.count or ""),
                f"{old.value:.4g}" if old else "",
                f"{score.value:.4g}",
                f"{score.value - old.value:+.4g}" if old else "",
            )
        )
    head = ("metric", "slice", "samples", "before", "after", "change")
    return (f"Evaluation ({shown.recipe})", head, rows)


def remarks(report: Report) -> list[str]:
    """Warnings, and the beginnings of notes: the reports have them whole."""
    notes = [
        shorten(f"{o.recipe}: {note}", NOTE, placeholder=" …")
        for o in report.tried
        for note in o.notes
    ]
    return [
        f"Judged on: {report.data}",
        *_limits(report),
        *(f"Warning: {text}" for text in report.warnings),
        *notes,
        f"Measured on: {report.machine}",
    ]


def _limits(report: Report) -> list[str]:
    limits = {"": report.max_drop, " on any slice": report.max_slice_drop}
    said = [f"{limit}{where}" for where, limit in limits.items() if limit]
    return [f"At most may be lost: {', '.join(said)}"] if said else []


def _decibels(value: float | None) -> str:
    """Signal to noise; less is worse."""
    if value is None:
        return ""
    return "none" if value >= CLEAN_DB else f"{value:.1f} dB"


def size(count: int) -> str:
    """Bytes in a unit that reads well."""
    if count < 1024:
        return f"{count} B"
    if count < 1024**2:
        return f"{count / 1024:.1f} KiB"
    return f"{count / 1024**2:.1f} MiB"


def _print_table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if sys.stdout.isatty() and _print_rich(title, head, rows):
        return
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    print(f"\n{title}")
    for row in (head, *rows):
        print("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip())
    print()


def _print_rich(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    try:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table as RichTable
    except ImportError:
        return False
    table = RichTable(title=escape(title), title_justify="left")
    for name in head:
        table.add_column(escape(name))
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    Console().print(table)
    return True
