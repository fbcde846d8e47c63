"""Rebuild the model from nothing: data from a seed, training, quantization, evaluation, package.

    .venv-workstation/bin/python models/pump-anomaly/recipe/build.py [--out DIR] [--report DIR]

In the workstation's environment (make workstation), about five minutes on one core. The same
versions give the same bytes.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np  # noqa: E402
import torch  # noqa: E402
from card import IDENTITY  # noqa: E402
from dataset import dataset  # noqa: E402
from family import SHAPE, PumpFamily  # noqa: E402
from quantize import float_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from torch import nn  # noqa: E402
from train import CLIP, network, train  # noqa: E402

from tools.quantize.auto import parse_limit  # noqa: E402
from tools.quantize.goal import Goal  # noqa: E402
from tools.quantize.run import quantize  # noqa: E402

SEED = 20260101


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent)
    parser.add_argument("--report", type=Path, help="directory for report.html and report.json")
    parser.add_argument(
        "--network", type=Path, help="keep the trained network here, and take it from here"
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, for a test")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    net = trained(arguments.network, 10 if arguments.quick else 1)
    windows = np.clip(dataset(range(5000, 5030), range(200, 206), SHAPE)[0], -CLIP, CLIP)
    with tempfile.TemporaryDirectory() as folder:
        goal = Goal(
            arguments.out,
            **dataclasses.asdict(IDENTITY),
            max_drop=None if arguments.quick else parse_limit("1%"),
            report=arguments.report,
            work=Path(folder, "work"),
        )
        family = PumpFamily(float_model(net, SHAPE.points), windows)
        quantize(family, goal, "pump-anomaly", "onnx")


def trained(path: Path | None, share: int) -> nn.Module:
    """The network: from the file if it is there, else trained."""
    if path and path.exists():
        net = network(SHAPE.points)
        net.load_state_dict(load_file(path))
        return net.eval()
    data = dataset(range(2000 // share), range(150 // share), SHAPE)
    held_out = dataset(range(100_000, 100_080), range(1000, 1012), SHAPE)
    print(f"{len(data[0]):,} windows, {data[1].mean():.0%} of them faulty", flush=True)
    net = train(data, held_out, SEED)
    if path:
        save_file(net.state_dict(), path)
    return net


if __name__ == "__main__":
    main()
