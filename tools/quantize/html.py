"""The report as one HTML page with inline SVG: no script, no style sheet, nothing to fetch. Pure."""

from collections.abc import Sequence
from html import escape

from tools.quantize import plots, terminal
from tools.quantize.report import Report

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2430}
h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;
border-bottom:1px solid #d9dee5;vertical-align:top}th{font-weight:600}
td:not(:first-child){font-variant-numeric:tabular-nums}td:not(:first-child):not(:last-child){white-space:nowrap}
.note{color:#5a6675}.warning{background:#fff4d6;padding:.5rem .8rem;border-left:4px solid #d99a00}
svg{max-width:100%;height:auto}
"""


COLOURS = "In the plots the original is grey, what is good enough blue, and what was refused red."


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        f"<h1>{escape(report.source)}</h1>",
        f'<p class="note">{escape(_headline(report))}</p>',
        f'<p class="note">Judged on: {escape(report.data)}.</p>',
        *(f'<p class="warning">{escape(text)}</p>' for text in report.warnings),
        f'<p class="note">{COLOURS}</p>',
        *plots.figures(report),
        *(_table(*table) for table in terminal.tables(report)),
        _notes(report),
        f'<p class="note">Measured on: {escape(report.machine)}.</p>',
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(report.source)}: quantization report</title><style>{STYLE}</style></head>"
        f"<body>\n{body}\n</body></html>\n"
    )


def _headline(report: Report) -> str:
    limit = f"; at most {report.max_drop} may be lost" if report.max_drop else ""
    if report.max_slice_drop:
        limit += f"; at most {report.max_slice_drop} on any slice"
    if not report.chosen:
        return f"Nothing was good enough to be packaged{limit}"
    return f"Chosen: {report.chosen}, of {len(report.tried)} tried{limit}"


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    lines = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<h2>{escape(title)}</h2>\n<table><tr>{cells}</tr>\n{lines}\n</table>"


def _notes(report: Report) -> str:
    notes = [(o.recipe, note) for o in report.tried for note in o.notes]
    lines = "".join(f"<li>{escape(name)}: {escape(note)}</li>" for name, note in notes)
    return f"<ul>{lines}</ul>" if lines else ""
