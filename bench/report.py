"""What a benchmark found, as values and as a Markdown table."""

from collections.abc import Sequence
from dataclasses import dataclass, field

_HEAD = ("figure", "value", "limit", "ratio", "target", "")


@dataclass(frozen=True, slots=True)
class Row:
    """One figure beside its limit.

    Attributes:
        name: what was measured.
        value: the figure, in `unit`.
        unit: for example ``messages/s`` or ``µs``.
        limit_name: what bounds the figure from outside, for example ``bare SQLite``; may be empty.
        limit_value: the limit measured in the same run, in `unit`.
        ratio: value over limit, 1.0 means that the limit was reached.
        target: what the project promises, as text.
        ok: whether the promise was kept; None when nothing is promised.
    """

    name: str
    value: float
    unit: str
    limit_name: str = ""
    limit_value: float | None = None
    ratio: float | None = None
    target: str = ""
    ok: bool | None = None

    def cells(self) -> tuple[str, ...]:
        """The row as text, one cell per column of the table."""
        limit = "" if self.limit_value is None else f"{number(self.limit_value)} {self.unit}"
        return (
            self.name,
            f"{number(self.value)} {self.unit}".strip(),
            f"{limit} ({self.limit_name})".strip() if self.limit_name else limit,
            "" if self.ratio is None else f"{self.ratio:.2f}",
            self.target,
            {True: "ok", False: "MISSED", None: ""}[self.ok],
        )


@dataclass(frozen=True, slots=True)
class Table:
    """The figures of one benchmark.

    Attributes:
        title: heading of the table.
        rows: figures in the order to be read.
        notes: sentences printed under the table: load, sizes, number of runs.
    """

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether no promise was missed."""
        return all(row.ok is not False for row in self.rows)

    def markdown(self) -> str:
        """The table as Markdown, columns aligned so that it reads well as plain text too."""
        lines = [_HEAD, *(row.cells() for row in self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(_HEAD))]
        text = [
            f"### {self.title}",
            "",
            _line(_HEAD, widths),
            _line(["-" * w for w in widths], widths),
        ]
        text += [_line(row.cells(), widths) for row in self.rows]
        return "\n".join([*text, "", *(f"{note}  " for note in self.notes)]).rstrip() + "\n"


def number(value: float) -> str:
    """A figure with three to four significant digits and thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + " |"
