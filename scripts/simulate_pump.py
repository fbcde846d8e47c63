#!/usr/bin/env python3
"""Writes the simulated pump's recording as CSV: a time, eight sensors, and a label for each row.

scripts/simulate_pump.py [SEED] > pump.csv
"""

import csv
import sys
from datetime import UTC, datetime

from agent.pipelines.sources.simulator import showcase

START = datetime(2026, 1, 5, 8, tzinfo=UTC)


def main(seed: int) -> None:
    """One row a second, an hour and a half in all."""
    made = showcase(seed, start=START.timestamp())
    writer = csv.writer(sys.stdout)
    writer.writerow(["time", *made.rows.sensors, "anomaly"])
    for time, values, label in zip(
        made.rows.time.tolist(), made.rows.values.tolist(), made.labels.tolist(), strict=True
    ):
        writer.writerow([datetime.fromtimestamp(time, UTC).isoformat(), *values, label])


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
