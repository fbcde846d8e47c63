"""What `status --watch` draws from two looks at a daemon: true figures, on a screen of any size."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.cli.live import recent, screen

EDGES = [1.0, 10.0, 100.0]


def look(uptime_s: float = 10.0, *, requests: int = 0, **changes: Any) -> dict[str, Any]:
    model = {"name": "echo", "version": "1.0.0", "state": "READY", "reason": "", "requests": 7}
    stream = {"stream": "pump", "phase": "watching", "warning": "", "readings": 3, "score": None}
    status = {
        "device": "dev-1",
        "ready": True,
        "reasons": [],
        "uptime_s": uptime_s,
        "machine": {"cpu_percent": 12.5, "memory_mib": 48.0, "available_mib": None},
        "serving": {
            "requests": requests,
            "refused": 0,
            "running": 2,
            "waiting": 1,
            "connections": 3,
        },
        "edges_ms": EDGES,
        "models": [{**model, "counts": [0, 0, 0, 0]}],
        "streams": [stream],
        "outbox": {"queued": 4, "delivered": 5},
        "link": {"state": "connected"},
    }
    return {**status, **changes}


def test_rates_and_times_are_those_between_the_looks() -> None:
    now, before = {"counts": [10, 110, 0, 0]}, {"counts": [10, 10, 0, 0]}
    found = recent(now, before, EDGES, 2.0)
    assert found.rate == 50
    assert found.p50_ms == pytest.approx(5.5)
    assert 9 < (found.p99_ms or 0) <= 10


def test_a_model_that_rests_has_no_times() -> None:
    assert recent({"counts": [5, 0, 0, 0]}, {"counts": [5, 0, 0, 0]}, EDGES, 1.0) == (0, None, None)


def test_everything_that_was_asked_for_is_shown() -> None:
    text = "\n".join(screen(look(12, requests=300), look(10, requests=100), 120, 50))
    for words in ("dev-1: ready", "100 requests/s", "2 under way", "3 connections", "48 MiB"):
        assert words in text
    assert "echo 1.0.0" in text
    assert "outbox: 4 queued, 5 delivered, link connected" in text


def test_a_daemon_that_was_started_again_counts_from_nothing() -> None:
    text = "\n".join(screen(look(2, requests=20), look(500, requests=10_000), 120, 50))
    assert "10 requests/s" in text


def test_a_daemon_that_is_not_ready_says_why_first() -> None:
    now = look(ready=False, reasons=["pipeline pumps: no model"])
    assert screen(now, now, 120, 50)[0] == "dev-1: NOT READY: pipeline pumps: no model"


@given(
    width=st.integers(2, 200),
    height=st.integers(1, 60),
    models=st.integers(0, 40),
    name=st.text(st.characters(categories=["L"]), min_size=1, max_size=80),
)
def test_lines_fit_every_terminal(width: int, height: int, models: int, name: str) -> None:
    one = look()["models"][0]
    now = look(models=[{**one, "name": f"{name}{i}"} for i in range(models)])
    lines = screen(now, now, width, height)
    assert len(lines) <= height
    assert all(len(line) <= width for line in lines)
