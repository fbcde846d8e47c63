"""What the pipelines count, by the names that operators see."""

from typing import TYPE_CHECKING

from agent.pipelines.stream import Work

if TYPE_CHECKING:
    from agent.telemetry.metrics import Metrics

#: Upper edges, seconds.
_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Instruments:
    """The metrics of this room."""

    def __init__(self, metrics: "Metrics") -> None:
        counter, histogram = metrics.counter, metrics.histogram
        self.readings = counter("edge_agent_readings_total", "Values of sensors that were taken in")
        self.rows = counter("edge_agent_rows_total", "Rows of readings that were taken in")
        self.dropped = counter(
            "edge_agent_rows_dropped_total", "Rows that a detector did not take", ("reason",)
        )
        self.windows = counter("edge_agent_windows_total", "Windows that were scored")
        self.warnings = counter("edge_agent_warnings_total", "Warnings that began")
        self.refused = counter(
            "edge_agent_readings_refused_total", "Payloads of readings that were refused", ("code",)
        )
        self.afresh = counter(
            "edge_agent_streams_afresh_total",
            "Streams that began anew because their state was of another model",
        )
        self.score_s = histogram(
            "edge_agent_batch_score_seconds", "Time to score a batch of all streams", _BUCKETS
        )
        self.commit_s = histogram(
            "edge_agent_batch_commit_seconds", "Time until a scored batch is on the disk", _BUCKETS
        )

    def count(self, work: Work) -> None:
        """Count a committed batch of one stream."""
        self.readings.inc(work.readings)
        self.rows.inc(work.rows)
        self.windows.inc(work.receipt.windows)
        self.warnings.inc(work.receipt.warnings)
        for reason, number in work.receipt.dropped.items():
            self.dropped.inc(number, reason)
