"""The baseline follows health, not faults, and what is left of a mended fault quickly."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agent.tasks.anomaly.alarm import HysteresisState
from agent.tasks.anomaly.pace import BLOCK_ROWS, SETTLING_SPEED, Pace, Step

MEMORY = 640
QUIET = HysteresisState()


def warning(peak: float) -> HysteresisState:
    return HysteresisState(since=1.0, peak=peak)


def block(pace: Pace, score: float, held: HysteresisState = QUIET) -> Step:
    step = pace.push(np.full(BLOCK_ROWS, score), held)
    assert step is not None
    return step


def test_a_healthy_block_is_followed_a_little_and_learned_from() -> None:
    assert block(Pace(MEMORY), 0.2) == Step(BLOCK_ROWS / MEMORY, healthy=True)


def test_one_suspicious_row_spoils_its_block_and_no_other() -> None:
    pace = Pace(MEMORY)
    scores = np.zeros(BLOCK_ROWS)
    scores[3] = 0.9
    assert pace.push(scores, QUIET) == Step(0.0, healthy=False)
    assert block(pace, 0.0).healthy


def test_a_warning_at_its_worst_teaches_nothing() -> None:
    assert block(Pace(MEMORY), 3.0, warning(peak=3.5)) == Step(0.0, healthy=False)


def test_past_its_worst_the_reference_moves_and_the_covariance_does_not() -> None:
    assert block(Pace(MEMORY), 2.0, warning(peak=3.5)) == Step(BLOCK_ROWS / MEMORY, healthy=False)


def test_after_a_warning_the_reference_settles_quickly_for_a_while() -> None:
    pace = Pace(MEMORY)
    block(pace, 1.0, warning(peak=3.0))
    steps = [block(pace, 0.7) for _ in range(MEMORY // BLOCK_ROWS)]
    assert {step.share for step in steps} == {SETTLING_SPEED * BLOCK_ROWS / MEMORY}
    assert block(pace, 0.7) == Step(0.0, healthy=False)
    assert block(pace, 0.2) == Step(BLOCK_ROWS / MEMORY, healthy=True)


def test_no_memory_follows_never() -> None:
    pace = Pace(0)
    assert block(pace, 0.0).share == 0.0
    assert block(pace, 1.0, warning(peak=9.0)).share == 0.0


def test_a_share_is_at_most_the_whole_way() -> None:
    assert block(Pace(5), 0.0).share == 1.0


@given(st.lists(st.integers(1, BLOCK_ROWS), min_size=1, max_size=30))
def test_blocks_end_at_the_same_rows_in_any_pieces(sizes: list[int]) -> None:
    pace, rows, ends = Pace(MEMORY), 0, []
    for size in sizes:
        taken = min(size, pace.room)
        rows += taken
        if pace.push(np.zeros(taken), QUIET) is not None:
            ends.append(rows)
    assert ends == list(range(BLOCK_ROWS, rows + 1, BLOCK_ROWS))
