"""What an operator can choose about watching a stream."""

from dataclasses import dataclass

from agent.ranges import check_range


@dataclass(frozen=True, slots=True)
class AnomalySettings:
    """How a stream is watched.

    Attributes:
        learn_rows: rows of the healthy past from which normal is learned; at most 131,072 readings.
        sensitivity: above 1 warns earlier and more often, below 1 later and less often.
        raise_score: a row counts for a warning from this score on; 1.0 is the threshold.
        raise_rows: of the last `within_rows` rows, how many must be at `raise_score` for a warning.
        within_rows: see `raise_rows`.
        clear_score: a warning ends after `within_rows` rows in a row below this; 1.0 is the threshold.
        lateness_s: how long a row waits for earlier ones that are still under way, seconds.
        max_gap_s: after a longer silence a window begins anew, seconds.
        follow_rows: memory of the reference that follows slow healthy change, rows; 0 never follows.
        hold_rows: how many rows a sensor's last value stands in for missing ones.
    """

    learn_rows: int = 400
    sensitivity: float = 1.0
    raise_score: float = 1.0
    raise_rows: int = 10
    within_rows: int = 12
    clear_score: float = 0.8
    lateness_s: float = 0.0
    max_gap_s: float = 60.0
    follow_rows: int = 600
    hold_rows: int = 10

    def __post_init__(self) -> None:
        check_range("learn_rows", self.learn_rows, 100, 100_000)
        check_range("sensitivity", self.sensitivity, 0.1, 10)
        check_range("raise_score", self.raise_score, 0.1, 100.0)
        check_range("within_rows", self.within_rows, 1, 1000)
        check_range("raise_rows", self.raise_rows, 1, self.within_rows)
        check_range("clear_score", self.clear_score, 0.0, min(1.0, self.raise_score))
        check_range("lateness_s", self.lateness_s, 0.0, 3600.0)
        check_range("max_gap_s", self.max_gap_s, 0.001, 86_400.0)
        check_range("follow_rows", self.follow_rows, 0, 10_000_000)
        check_range("hold_rows", self.hold_rows, 0, 10_000)
