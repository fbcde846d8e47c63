"""The report says the same as text, JSON and HTML, whatever the model is called."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from tools.quantize import html, plots, terminal
from tools.quantize.family import LayerError, Score
from tools.quantize.report import Figures, Outcome, Report, from_json, to_json

EVIL = "<script>alert('x')</script>\"&"


def report(*, comparable: bool = True, chosen: bool = True, name: str = "model.onnx") -> Report:
    before = Outcome(
        "original", "as given", Figures(4_000_000, 1_000_000, 2.0, 3.0, 9_000_000, 100),
        [Score("accuracy", 0.9, "all", 50), Score("accuracy", 0.8, name, 20)],
    )  # fmt: skip
    after = Outcome(
        "int8", "smaller", Figures(1_000_000, 1_000_000, 1.0, 1.5, 3_000_000, 200),
        [Score("accuracy", 0.895, "all", 50), Score("accuracy", 0.7, name, 20)],
        [LayerError(name, "Conv", 20.0, 12.0), LayerError("b", "Gemm", 40.0)],
        [f"left in float: {name}"], "" if chosen else "lost too much",
    )  # fmt: skip
    return Report(
        name, "onnx", "a machine", "50 samples", "inference", before if comparable else None,
        [after], "int8" if chosen else "", "1%", [f"mind {name}"], "5%",
    )  # fmt: skip


class Checker(HTMLParser):
    """Every opened element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert tag == "rect" or self.open.pop() == tag


@pytest.mark.parametrize("comparable", [True, False])
@pytest.mark.parametrize("chosen", [True, False])
@pytest.mark.parametrize("name", ["model.onnx", EVIL])
def test_the_page_stands_alone_and_runs_nothing(comparable: bool, chosen: bool, name: str) -> None:
    page = html.page(report(comparable=comparable, chosen=chosen, name=name))
    checker = Checker()
    checker.feed(page)
    assert checker.open == []
    assert "svg" in checker.seen
    assert not {"script", "link", "img", "iframe"} & checker.seen
    assert not re.search(r"(src|href|url)\s*[=(]", page)


def test_json_is_read_back() -> None:
    made = report()
    assert to_json(from_json(to_json(made))) == to_json(made)


def test_the_text_names_what_a_person_asks_for(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show(report())
    text = capsys.readouterr().out
    for part in (
        "25.0%",
        "chosen",
        "Judged on: 50 samples",
        "At most may be lost: 1%, 5% on any slice",
        "0.895",
        "-0.1",
        "12.0 dB",
        "2 ms",
        "left in float",
        "mind",
    ):
        assert part in text


def test_models_that_were_tried_are_compared_by_what_decided_between_them() -> None:
    made = report()
    assert "of each that was tried" not in html.page(made)  # there is one
    worse = replace(made.tried[0], recipe="int4", scores=[Score("accuracy", 0.4321, "all", 50)])
    page = html.page(replace(made, tried=(replace(worse, rejected="lost"), *made.tried)))
    drawn = page.partition("Accuracy of each that was tried")[2].partition("</svg>")[0]
    assert re.findall(r">([a-z0-9.]+)</text>", drawn) == [
        "original", "0.9", "int4", "0.4321", "int8", "0.895",
    ]  # fmt: skip
    assert plots.BAD in drawn


def test_a_long_note_is_cut_on_the_terminal_and_whole_on_the_page() -> None:
    made = report()
    note = f"left in float: {', '.join(f'/model/layers.{n}/matrix' for n in range(100))}"
    made = replace(made, tried=(replace(made.tried[0], notes=(note,)),))
    assert note in html.page(made)
    assert all(len(line) <= terminal.NOTE for line in terminal.remarks(made))
    assert any(line.endswith("…") for line in terminal.remarks(made))


def test_the_page_says_what_was_allowed_on_any_slice() -> None:
    assert "at most 1% may be lost; at most 5% on any slice" in html.page(report())


def test_no_bar_is_longer_than_the_picture() -> None:
    widths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', html.page(report()))]
    assert widths
    assert max(widths) < 720
