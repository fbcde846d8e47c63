"""Metrics are an interface: named after the conventions of Prometheus, described in one style, documented."""

import re
import subprocess
import sys
from pathlib import Path

from scripts import document_metrics

ROOT = Path(__file__).parents[2]
METRICS = sorted(set(document_metrics.made()))

#: Units that a name may end in; others are numbers of things.
UNITS = ("_seconds", "_bytes", "_celsius")


def test_the_page_is_what_the_code_says() -> None:
    """`make docs` writes it again."""
    script = [sys.executable, ROOT / "scripts" / "document_metrics.py", "--check"]
    assert subprocess.run(script, timeout=60, check=False).returncode == 0


def test_a_name_is_one_metric() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_counters_and_only_they_are_totals() -> None:
    wrong = [m.name for m in METRICS if (m.kind == "counter") != m.name.endswith("_total")]
    assert wrong == []


def test_histograms_are_of_seconds_and_units_are_base_units() -> None:
    assert [m.name for m in METRICS if m.kind == "histogram" and "_seconds" not in m.name] == []
    odd = re.compile(r"_(ms|millis\w*|us|kib|mib|gib|kb|mb|percent)(_|$)")
    assert [m.name for m in METRICS if odd.search(m.name)] == []


def test_every_help_is_a_fragment_in_one_style() -> None:
    """A noun phrase from a capital on, of three words or more, without a full stop."""
    style = re.compile(r"[A-Z][^.\n|]*(?: [^.\n|]+){2,}[^.\s]")
    assert [m.help for m in METRICS if not style.fullmatch(m.help)] == []


def test_every_metric_that_a_page_names_exists() -> None:
    """Whole names; parts of them, such as an ending, are not understood."""
    known = {metric.name for metric in METRICS}
    series = known | {f"{m.name}{end}" for m in METRICS for end in ("_bucket", "_count", "_sum")}
    found = {
        name
        for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/*.conf")]
        for name in re.findall(r"\bedge_agent_[a-z_]+", page.read_text())
    }
    assert found - series == set()
