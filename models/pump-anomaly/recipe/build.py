"""Rebuild the model from nothing: data from a seed, training, quantization, evaluation, package.

    .venv-workstation/bin/python models/pump-anomaly/recipe/build.py [--out DIR] [--quick]

In the workstation's environment (make workstation), about five minutes on one core. The same
versions give the same bytes. The package is written whole, and beside its recipe: by default into
./pump-anomaly, to be compared with what is here and moved over it.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from card import IDENTITY, description  # noqa: E402
from dataset import dataset  # noqa: E402
from evaluate import evaluate  # noqa: E402
from quantize import OUTPUT_SCALE, float_model, quantized  # noqa: E402
from train import CLIP, SCALE, train  # noqa: E402

from agent.engines import catalog  # noqa: E402
from agent.engines.base import EngineOptions  # noqa: E402
from agent.tasks.anomaly.windows import Shape  # noqa: E402
from tools.quantize.family import Artifact, GoldenInput, Score  # noqa: E402
from tools.quantize.package import Draft, write_package  # noqa: E402

SEED = 20260101
SHAPE = Shape(smooth=16, points=32, step=2)
GOLDEN_WINDOWS = 16
TOLERANCE = 2.0  # steps of the quantized output


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("pump-anomaly"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, for a test")
    arguments = parser.parse_args()
    share = 10 if arguments.quick else 1
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    data = dataset(range(2000 // share), range(150 // share), SHAPE)
    held_out = dataset(range(100_000, 100_080), range(1000, 1012), SHAPE)
    print(f"{len(data[0]):,} windows, {data[1].mean():.0%} of them faulty", flush=True)
    network = train(data, held_out, SEED)
    calibration = np.clip(dataset(range(5000, 5030), range(200, 206), SHAPE)[0], -CLIP, CLIP)
    model = quantized(float_model(network, SHAPE.points), calibration, SCALE)
    package(arguments.out, model.SerializeToString(), calibration)


def package(out: Path, model: bytes, windows: np.ndarray) -> None:
    """Write model, golden cases and manifest with what the model measures."""
    with tempfile.TemporaryDirectory() as folder:
        artifact = Artifact(Path(folder), {"model.onnx": "model"}, "onnx")
        artifact.model.write_bytes(model)
        words = description(SHAPE, SCALE, OUTPUT_SCALE, golden(model, windows))
        write_package(out, Draft(IDENTITY, artifact, words))  # what is evaluated is the package
        found = [Score(name, value, part) for name, part, value in evaluate(out)]
        write_package(out, Draft(IDENTITY, artifact, words, found))
    print(f"{out} holds {IDENTITY.name} {IDENTITY.version}")


def golden(model: bytes, windows: np.ndarray) -> list[GoldenInput]:
    """The windows that the model finds least and most faulty."""
    session = catalog.load_session("onnx", model, EngineOptions())
    stored = np.rint(windows / SCALE).clip(-128, 127).astype(np.int8)
    order = np.argsort(session.run({"window": stored})["evidence"][:, 0], kind="stable")
    rows = {"healthy": order[:GOLDEN_WINDOWS], "faulty": order[-GOLDEN_WINDOWS:]}
    return [GoldenInput(name, {"window": stored[at]}, TOLERANCE) for name, at in rows.items()]


if __name__ == "__main__":
    main()
