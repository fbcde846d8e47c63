"""Folding telemetry: nothing that can be summed is lost, whatever is folded in which order."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.thinning import merge_telemetry
from agent.types import Message


def telemetry(number: int, windows: int, score: float, **other) -> Message:
    body = {
        "id": f"id-{number}", "device": "d", "time": "t", "class": "telemetry", "stream": "s",
        "model": "m 1.0.0", "from": f"{number:04}", "to": f"{number + 1:04}", "phase": "watching",
        "progress": 1.0, "windows": windows, "rows": windows, "readings": 8 * windows,
        "score": {"min": score, "mean": score, "max": score} if windows else None,
        "dropped": {"late": windows % 3} if windows % 3 else {},
    } | other  # fmt: skip
    return Message(f"id-{number}", "telemetry", "t", json.dumps(body).encode(), float(number))


def body(message: Message) -> dict:
    return json.loads(message.payload)


SCORES = st.floats(0, 100).map(lambda score: round(score, 4))


@given(st.lists(st.tuples(st.integers(0, 50), SCORES), min_size=4, max_size=16))
def test_counts_extremes_and_means_survive_in_two_steps_as_in_one(parts):
    messages = [telemetry(n, *part) for n, part in enumerate(parts)]
    half = len(messages) // 2
    twice = merge_telemetry([merge_telemetry(messages[:half]), merge_telemetry(messages[half:])])
    for merged in (body(merge_telemetry(messages)), body(twice)):
        scored = [(w, s) for w, s in parts if w]
        assert merged["windows"] == sum(w for w, _ in parts)
        assert merged["readings"] == 8 * merged["windows"]
        assert merged["thinned"] == len(parts)
        assert sum(merged["dropped"].values()) == sum(w % 3 for w, _ in parts)
        assert (merged["from"], merged["to"]) == ("0000", f"{len(parts):04}")
        if not scored:
            assert merged["score"] is None
            continue
        assert merged["score"]["min"] == min(s for _, s in scored)
        assert merged["score"]["max"] == max(s for _, s in scored)
        mean = sum(w * s for w, s in scored) / merged["windows"]
        assert merged["score"]["mean"] == pytest.approx(mean, abs=2e-4)


def test_the_aggregate_has_an_id_that_follows_from_its_parts():
    messages = [telemetry(n, 5, 1.0) for n in range(8)]
    merged = merge_telemetry(messages)
    assert merged.id == "id-7.8" == body(merged)["id"]
    assert merged == merge_telemetry(messages)
    assert (merged.topic, merged.kind, merged.created) == ("t", "telemetry", 7.0)


@pytest.mark.parametrize(
    "change", [{"stream": "other"}, {"model": "m 2.0.0"}, {"phase": "learning"}]
)
def test_a_change_of_stream_model_or_phase_is_not_folded_away(change):
    assert merge_telemetry([telemetry(0, 1, 1.0), telemetry(1, 1, 1.0, **change)]) is None


@pytest.mark.parametrize(
    "payload", [b"", b"7", b"{}", b"\xff", b'{"stream": "s"}', b'{"stream": []}']
)
def test_what_is_no_summary_is_left_as_it_is(payload):
    odd = replace(telemetry(1, 1, 1.0), payload=payload)
    assert merge_telemetry([telemetry(0, 1, 1.0), odd]) is None
