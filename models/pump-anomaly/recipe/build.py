"""Rebuild the model from nothing: data from a seed, training, quantization, evaluation, package.

    python models/pump-anomaly/recipe/build.py [--out DIR] [--quick]

Needs torch and onnx beside onnxruntime (see requirements.txt here); about five minutes on one core.
The same versions of these give the same file.
"""

import argparse
import hashlib
import os
import sys
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from card import CARD, manifest  # noqa: E402
from dataset import dataset  # noqa: E402
from evaluate import evaluate  # noqa: E402
from quantize import OUTPUT_SCALE, float_model, quantized  # noqa: E402
from train import CLIP, SCALE, train  # noqa: E402

from agent.engines import catalog  # noqa: E402
from agent.engines.base import EngineOptions  # noqa: E402
from agent.tasks.anomaly.windows import Shape  # noqa: E402

SEED = 20260101
SHAPE = Shape(smooth=16, points=32, step=2)
GOLDEN_WINDOWS = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent)
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
    out.mkdir(parents=True, exist_ok=True)
    (out / "model.onnx").write_bytes(model)
    session = catalog.load_session("onnx", model, EngineOptions())
    stored = np.rint(windows / SCALE).clip(-128, 127).astype(np.int8)
    order = np.argsort(session.run({"window": stored})["evidence"][:, 0], kind="stable")
    cases = {"healthy": order[:GOLDEN_WINDOWS], "faulty": order[-GOLDEN_WINDOWS:]}
    golden = {}
    for name, rows in cases.items():
        golden[f"{name}/in/window"] = stored[rows]
        golden[f"{name}/out/evidence"] = session.run({"window": stored[rows]})["evidence"]
    np.savez(out / "golden.npz", **golden)
    files = {path: describe(out / path) for path in ("model.onnx", "golden.npz")}
    text = manifest(files, SHAPE, SCALE, OUTPUT_SCALE, tuple(cases), metrics=())
    (out / "model.toml").write_text(text)
    metrics = evaluate(out)
    text = manifest(files, SHAPE, SCALE, OUTPUT_SCALE, tuple(cases), metrics=metrics)
    (out / "model.toml").write_text(text)
    print(CARD.format(path=out / "model.toml"))


def describe(path: Path) -> tuple[str, int]:
    """SHA-256 and size of a file."""
    data = path.read_bytes()
    return hashlib.sha256(data).hexdigest(), len(data)


if __name__ == "__main__":
    main()
