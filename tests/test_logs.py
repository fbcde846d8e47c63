"""Log lines: one line each, with their fields, and never a flood."""

import io
import json
import logging

import pytest

from agent.logs import BURST, PERIOD_S, FloodGate, JsonFormatter, TextFormatter


def record(message: str = "lost", line: int = 1, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("agent.sync.link", logging.WARNING, "link.py", line, message, (), None)
    vars(made).update(extra)
    return made


def test_text_carries_the_fields() -> None:
    assert TextFormatter().format(record(retry_s=3)) == "warning sync.link: lost retry_s=3"


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record("two\nlines", broker="b"))
    assert "\n" not in line
    assert json.loads(line)["message"] == "two\nlines"
    assert json.loads(line)["broker"] == "b"


class TestFloodGate:
    """One call site cannot fill the journal; the others are not affected."""

    @pytest.fixture
    def now(self) -> list[float]:
        return [0.0]

    @pytest.fixture
    def gate(self, now: list[float]) -> FloodGate:
        return FloodGate(lambda: now[0])

    def test_lets_a_burst_through_and_holds_the_rest(self, gate: FloodGate) -> None:
        passed = [gate.filter(record()) for _ in range(BURST + 5)]
        assert passed.count(True) == BURST

    def test_another_call_site_still_speaks(self, gate: FloodGate) -> None:
        for _ in range(BURST + 5):
            gate.filter(record())
        assert gate.filter(record(line=2))

    def test_says_afterwards_how_many_it_held_back(self, gate: FloodGate, now: list[float]) -> None:
        for _ in range(BURST + 5):
            gate.filter(record())
        now[0] = PERIOD_S
        late = record()
        assert gate.filter(late)
        assert "held_back=5" in TextFormatter().format(late)


def test_configure_sends_lines_to_the_stream() -> None:
    from agent.logs import configure

    before = logging.getLogger().handlers[:], logging.getLogger().level
    stream = io.StringIO()
    try:
        configure("info", "text", stream)
        logging.getLogger("agent.app").info("ready")
    finally:
        logging.getLogger().handlers[:], logging.getLogger().level = before
    assert stream.getvalue() == "info app: ready\n"
