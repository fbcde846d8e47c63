"""What the packaged model is worth, through the very detector that runs on the device.

    python models/pump-anomaly/recipe/evaluate.py [--skab DIR] [--nab DIR]

Always on the simulator. On the Skoltech Anomaly Benchmark (SKAB, github.com/waico/SKAB) where it is
given: the first 400 rows of a run are its healthy past, the others are scored row by row, and F1,
false alarm rate and missing alarm rate are pooled over the runs; once for rows over the threshold,
once for rows under a warning. On recordings of the Numenta Anomaly Benchmark (github.com/numenta/NAB)
with their `windows.json`: a week of five-minute rows is the healthy past.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[2])]

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from agent.engines import catalog  # noqa: E402
from agent.engines.base import EngineOptions  # noqa: E402
from agent.pipelines.sources.replay import open_recording  # noqa: E402
from agent.pipelines.sources.simulator import Episode, Fault, simulate  # noqa: E402
from agent.tasks.anomaly import AnomalyDetector, AnomalySettings, Outcome  # noqa: E402
from agent.trust.manifest import parse_manifest  # noqa: E402
from agent.types import Rows  # noqa: E402

FAULTS: tuple[Fault, ...] = ("cavitation", "closing valve", "bearing wear")
PUMPS = 20  # of each fault
HEALTHY_ROWS = 20_000
SKAB_HEALTHY = 400  # rows
WARNED = "pumps with the fault that were warned of"
DELAY = "median seconds from the fault's start to the warning"
NAB_SETTINGS = AnomalySettings(learn_rows=7 * 288, max_gap_s=3600.0)
Metrics = list[tuple[str, str, float]]


def detector(package: Path, settings: AnomalySettings | None = None) -> AnomalyDetector:
    """A detector with the package's model."""
    manifest = parse_manifest((package / "model.toml").read_bytes())
    model = (package / manifest.model_file.path).read_bytes()
    session = catalog.load_session(manifest.engine, model, EngineOptions())
    return AnomalyDetector(session, manifest, settings)


def watch(package: Path, rows: Rows, settings: AnomalySettings | None = None) -> Outcome:
    """All rows through a new detector, at once."""
    return detector(package, settings).push(rows)


def warned(rows: Rows, outcome: Outcome) -> NDArray[np.bool_]:
    """For each row, whether a warning holds."""
    holds = np.zeros(len(rows), bool)
    for alarm in outcome.alarms:
        after = rows.time >= alarm.time
        holds[after] = alarm.kind == "raised"
    return holds


def evaluate(package: Path) -> Metrics:
    """The card's figures: pumps of the simulator, by fault."""
    metrics: Metrics = []
    for fault in FAULTS:
        delays = [_delay(package, fault, seed) for seed in range(5000, 5000 + PUMPS)]
        found = [delay for delay in delays if delay is not None]
        metrics.append((WARNED, fault, len(found) / PUMPS))
        metrics.append((DELAY, fault, _median(found)))
    rows = [simulate(HEALTHY_ROWS, seed=seed).rows for seed in range(6000, 6000 + PUMPS)]
    raised = sum(a.kind == "raised" for r in rows for a in watch(package, r).alarms)
    days = PUMPS * HEALTHY_ROWS / 86_400
    metrics.append(("false warnings a day", "healthy", raised / days))
    share = float(np.mean([value for name, _, value in metrics if name == WARNED]))
    metrics.insert(0, (WARNED, "all", share))
    for name, part, value in metrics:
        print(f"{name:55} {part:15} {value:8.3g}", flush=True)
    return metrics


def _delay(package: Path, fault: Fault, seed: int) -> float | None:
    begin = 500 + seed % 100
    made = simulate(1000, seed=seed, episodes=[Episode(fault, begin, 1000)])
    raised = [a for a in watch(package, made.rows).alarms if a.kind == "raised" and a.time >= begin]
    return raised[0].time - begin if raised else None


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if values else float("nan")


Counts = dict[str, NDArray[np.float64]]  # "score" or "warning" -> true and false alarms, ...


def skab(package: Path, folder: Path) -> dict[str, Counts]:
    """Confusion counts pooled over the runs of each folder, and over all."""
    totals: dict[str, Counts] = {}
    for path in sorted(folder.glob("[!a]*/*.csv")):  # all but the anomaly-free recording
        for name, counts in _of_run(package, path).items():
            for part in (path.parent.name, "all"):
                pooled = totals.setdefault(part, {}).setdefault(name, np.zeros(4))
                pooled += counts
    return totals


def rates(counts: NDArray[np.float64]) -> tuple[float, float, float]:
    """F1, false alarm rate and missing alarm rate."""
    tp, fp, fn, tn = counts.tolist()
    return 2 * tp / (2 * tp + fp + fn), fp / (fp + tn), fn / (fn + tp)


def _print_skab(totals: dict[str, Counts]) -> None:
    for part, by_name in sorted(totals.items(), key=lambda item: (item[0] == "all", item[0])):
        for name, counts in by_name.items():
            f1, far, mar = rates(counts)
            print(f"SKAB {part:7} by {name:8} F1 {f1:.3f}  FAR {far:6.2%}  MAR {mar:6.2%}")


def _of_run(package: Path, path: Path) -> Counts:
    """Confusion counts of the rows after the healthy past, by score and by warning."""
    with open_recording(path) as recording:
        part = next(recording.parts(100_000))
    truth = part.labels["anomaly"][SKAB_HEALTHY:] > 0
    outcome = watch(package, part.rows, AnomalySettings(learn_rows=SKAB_HEALTHY))
    scores = np.zeros(len(part.rows))
    scores[np.searchsorted(part.rows.time, outcome.times)] = outcome.scores
    return {
        "score": _confusion(scores[SKAB_HEALTHY:] >= 1.0, truth),
        "warning": _confusion(warned(part.rows, outcome)[SKAB_HEALTHY:], truth),
    }


def _confusion(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return np.array([np.count_nonzero(a & b) for a, b in pairs], float)


def nab(package: Path, folder: Path) -> None:
    """Which labelled windows of the Numenta Anomaly Benchmark had a warning, and how many had none."""
    windows = json.loads((folder / "windows.json").read_text())
    for name, labelled in windows.items():
        with open_recording(folder / Path(name).name) as recording:
            rows = next(recording.parts(1_000_000)).rows
        alarms = watch(package, rows, NAB_SETTINGS).alarms
        raised = np.array([a.time for a in alarms if a.kind == "raised"])
        edges = np.array(labelled, "datetime64[s]").astype(float)
        inside = (raised[:, None] >= edges[:, 0]) & (raised[:, None] <= edges[:, 1])
        days = (rows.time[-1] - rows.time[NAB_SETTINGS.learn_rows]) / 86_400
        false = np.count_nonzero(~inside.any(axis=1))
        print(
            f"NAB {Path(name).stem}: {np.count_nonzero(inside.any(axis=0))} of {len(edges)} labelled "
            f"windows warned of, {false} warnings outside them in {days:.0f} days"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, default=HERE.parent)
    parser.add_argument("--skab", type=Path)
    parser.add_argument("--nab", type=Path)
    arguments = parser.parse_args()
    evaluate(arguments.package)
    if arguments.skab:
        _print_skab(skab(arguments.package, arguments.skab))
    if arguments.nab:
        nab(arguments.package, arguments.nab)


if __name__ == "__main__":
    main()
