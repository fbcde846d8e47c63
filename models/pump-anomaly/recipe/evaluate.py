"""What the packaged model is worth, through the very detector that runs on the device.

    python models/pump-anomaly/recipe/evaluate.py [--skab DIR] [--nab FILE]

Always on the simulator; on the Skoltech Anomaly Benchmark (SKAB, github.com/waico/SKAB) where it is
given: the first 400 rows of a run are its healthy past, the others are scored row by row, and F1,
false alarm rate and missing alarm rate are pooled over the runs.
"""

import argparse
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
        metrics.append(("pumps with the fault that were warned of", fault, len(found) / PUMPS))
        metrics.append(
            ("median seconds from the fault's start to the warning", fault, _median(found))
        )
    rows = [simulate(HEALTHY_ROWS, seed=seed).rows for seed in range(6000, 6000 + PUMPS)]
    raised = sum(a.kind == "raised" for r in rows for a in watch(package, r).alarms)
    days = PUMPS * HEALTHY_ROWS / 86_400
    metrics.append(("false warnings a day", "healthy", raised / days))
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


def skab(package: Path, folder: Path) -> None:
    """F1, FAR and MAR pooled over all runs below the folder."""
    counts = {"score": np.zeros(4), "warning": np.zeros(4)}
    for path in sorted(folder.glob("valve*/*.csv")) + sorted(folder.glob("other/*.csv")):
        with open_recording(path) as recording:
            part = next(recording.parts(100_000))
        truth = part.labels["anomaly"][400:] > 0
        outcome = watch(package, part.rows)
        scores = np.zeros(len(part.rows))
        scores[np.searchsorted(part.rows.time, outcome.times)] = outcome.scores
        counts["score"] += _confusion(scores[400:] >= 1.0, truth)
        counts["warning"] += _confusion(warned(part.rows, outcome)[400:], truth)
    for name, (tp, fp, fn, tn) in counts.items():
        f1 = 2 * tp / (2 * tp + fp + fn)
        print(f"SKAB by {name:8} F1 {f1:.3f}  FAR {fp / (fp + tn):.2%}  MAR {fn / (fn + tp):.2%}")


def _confusion(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    pairs = ((found, truth), (found, ~truth), (~found, truth), (~found, ~truth))
    return np.array([np.count_nonzero(a & b) for a, b in pairs], float)


def nab(package: Path, path: Path) -> None:
    """Warnings on a recording of the Numenta Anomaly Benchmark, for a person to compare."""
    with open_recording(path) as recording:
        rows = next(recording.parts(1_000_000)).rows
    settings = AnomalySettings(max_gap_s=3600.0, learn_rows=2000)
    for alarm in watch(package, rows, settings).alarms:
        print(
            f"{path.name}: {alarm.kind} {np.datetime64(int(alarm.time), 's')} peak {alarm.peak:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--package", type=Path, default=HERE.parent)
    parser.add_argument("--skab", type=Path)
    parser.add_argument("--nab", type=Path)
    arguments = parser.parse_args()
    evaluate(arguments.package)
    if arguments.skab:
        skab(arguments.package, arguments.skab)
    if arguments.nab:
        nab(arguments.package, arguments.nab)


if __name__ == "__main__":
    main()
