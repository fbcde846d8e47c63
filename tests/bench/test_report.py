"""The table of a benchmark: every figure beside its limit, readable as plain text."""

import pytest

from bench.report import Row, Table, number


def test_a_table_as_markdown():
    table = Table(
        "Outbox",
        [
            Row("enqueue", 12345.6, "/s", "bare SQLite", 24691.2, 0.5, "70%", ok=False),
            Row("idle", 0.0021, "%"),
        ],
        ["Seven runs."],
    )
    assert table.markdown().splitlines() == [
        "### Outbox",
        "",
        "| figure  | value     | limit                   | ratio | target |        |",
        "| ------- | --------- | ----------------------- | ----- | ------ | ------ |",
        "| enqueue | 12,346 /s | 24,691 /s (bare SQLite) | 0.50  | 70%    | MISSED |",
        "| idle    | 0.0021 %  |                         |       |        |        |",
        "",
        "Seven runs.",
    ]
    assert not table.ok


def test_a_table_without_a_missed_promise_is_ok():
    assert Table("t", [Row("a", 1, "s"), Row("b", 1, "s", ok=True)]).ok


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00123, "0.00123"), (9.876, "9.88"), (12.34, "12.3"), (1234567, "1,234,567")]
)  # fmt: skip
def test_figures_have_three_digits_or_so(value, text):
    assert number(value) == text
