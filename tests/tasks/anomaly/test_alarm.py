"""A warning begins when enough rows are over the threshold and ends when a run is well below."""

from hypothesis import given
from hypothesis import strategies as st

from agent.tasks.anomaly.alarm import Edge, Hysteresis


def edges(scores: list[float], raise_rows: int = 3, within: int = 4) -> list[Edge]:
    return Hysteresis(raise_rows, within, 0.8).push([float(i) for i in range(len(scores))], scores)


def test_one_noisy_row_raises_nothing() -> None:
    assert edges([0, 5, 0, 0, 0, 5, 0]) == []


def test_enough_rows_raise_once_and_since_the_first() -> None:
    found = edges([0, 2, 0.5, 2, 3, 3, 3])
    assert [(e.kind, e.row, e.since) for e in found] == [("raised", 4, 1.0)]


def test_a_dip_does_not_clear() -> None:
    assert len(edges([2, 2, 2, 0, 0, 0, 2])) == 1


def test_rows_between_the_two_levels_neither_raise_nor_clear() -> None:
    assert len(edges([2, 2, 2, *[0.9] * 50])) == 1
    assert edges([0.9] * 50) == []


def test_a_quiet_run_clears_with_the_peak() -> None:
    found = edges([2, 7, 2, 0, 0, 0, 0, 0])
    assert [(e.kind, e.row, e.peak) for e in found] == [("raised", 2, 2), ("cleared", 6, 2)]


def test_the_next_warning_begins_afresh() -> None:
    found = edges([2, 2, 2, 0, 0, 0, 0, 0, 0, 2, 2, 2])
    assert [e.kind for e in found] == ["raised", "cleared", "raised"]
    assert found[2].since == 9.0


@given(st.lists(st.sampled_from([0.0, 0.9, 1.0, 3.0]), max_size=80), st.integers(1, 20))
def test_it_does_not_matter_in_how_many_pieces_scores_arrive(
    scores: list[float], size: int
) -> None:
    whole = [(e.kind, e.row, e.since, e.peak) for e in edges(scores)]
    hysteresis, found = Hysteresis(3, 4, 0.8), []
    for at in range(0, len(scores), size):
        part = scores[at : at + size]
        new = hysteresis.push([float(at + i) for i in range(len(part))], part)
        found += [(e.kind, at + e.row, e.since, e.peak) for e in new]
    assert found == whole
