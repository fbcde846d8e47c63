"""Rebuild the model from nothing: pictures from a seed, training, quantization, evaluation, package.

    python models/gauge-reader/recipe/build.py [--out DIR] [--report DIR] [--network FILE] [--quick]

Needs the workstation's environment (make workstation); about a quarter of an hour on one core. The
same versions give the same file.
"""

import argparse
import dataclasses
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from dataset import Pictures, mixture, pictures  # noqa: E402
from dials import KEPT_ASIDE, TRAINED  # noqa: E402
from graph import TAIL, float_model  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from scenes import CONDITIONS  # noqa: E402
from train import EPOCHS, GaugeReader, train  # noqa: E402

from agent.types import TensorSpec  # noqa: E402
from tools.quantize.auto import parse_limit  # noqa: E402
from tools.quantize.family import Artifact, Description, Recipe  # noqa: E402
from tools.quantize.goal import Goal  # noqa: E402
from tools.quantize.onnx.family import OnnxFamily, OnnxSource  # noqa: E402
from tools.quantize.onnx.recipes import StaticInt8  # noqa: E402
from tools.quantize.run import quantize  # noqa: E402
from tools.quantize.tensors.samples import Samples  # noqa: E402

SEED = 1
TRAINED_ON, MEASURED_ON = 40_000, 1_000  # pictures; the second for each condition
GOLDEN_TOLERANCE = 0.02  # of the scale: processors round int8 differently

DATA = (
    "Rendered dials with a needle, sweeps and divisions that no trained dial has, 1,000 pictures for "
    "each condition; values from 0, the first mark, to 1, the last."
)
LIMITS = (
    "One round dial with one needle that turns clockwise, upright within 20 degrees, its rim filling "
    "more than two thirds of the picture, in 96 x 96 grey pixels. Trained and measured on rendered "
    "pictures only: compare it with readings of your own gauges before you rely on it. Below a "
    "confidence of 0.5 ask a person."
)


@dataclasses.dataclass(slots=True)
class GaugeFamily(OnnxFamily):
    """The float graph with what its manifest says; one recipe, which leaves the belief in float."""

    def recipes(self) -> Sequence[Recipe]:
        """Static int8 for everything before the belief."""
        calibration = self.given.calibration
        return [StaticInt8(spared=TAIL, calibration=calibration, method="minmax")]

    def describe(self, artifact: Artifact) -> Description:
        """The graph's tensors with their units, limits and golden cases."""
        # Not super(): a class with slots is made anew by its decorator.
        found = OnnxFamily.describe(self, artifact)
        return dataclasses.replace(
            found,
            inputs=[_unit(spec, "grey, 0 is black") for spec in found.inputs],
            outputs=[_unit(spec, _UNITS[spec.name]) for spec in found.outputs],
            golden=[dataclasses.replace(g, tolerance=GOLDEN_TOLERANCE) for g in found.golden],
            data=DATA,
            limits=LIMITS,
        )


_UNITS = {
    "value": "share of the scale, 0 is the first mark",
    "confidence": "belief that lies together",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent)
    parser.add_argument("--report", type=Path)
    parser.add_argument(
        "--network", type=Path, help="keep the trained network here, and take it from here"
    )
    parser.add_argument("--quick", action="store_true", help="a fortieth of the work, for a test")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    share, epochs = (40, 2) if arguments.quick else (1, EPOCHS)
    network = trained(arguments.network, share, epochs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gauge-reader.onnx")
        onnx.save(float_model(network), path)
        given = OnnxSource(path, evaluation(MEASURED_ON // share), calibration())
        quantize(GaugeFamily(given), goal(arguments, Path(folder)), path.name, "onnx")


def trained(path: Path | None, share: int, epochs: int) -> GaugeReader:
    """The network: from the file if it is there, else trained."""
    if path and path.exists():
        network = GaugeReader()
        network.load_state_dict(load_file(path))
        return network.eval()
    held_out = mixture(KEPT_ASIDE, 1500 // share, SEED + 1)
    network = train(mixture(TRAINED, TRAINED_ON // share, SEED), held_out, SEED + 2, epochs)
    if path:
        save_file(network.state_dict(), path)
    return network


def goal(arguments: argparse.Namespace, folder: Path) -> Goal:
    """What is asked of the package: at most one point lost, on every slice."""
    limit = None if arguments.quick else parse_limit("0.01")
    return Goal(
        out=arguments.out,
        name="gauge-reader",
        version="1.0.0",
        license="Apache-2.0",
        summary="Reads a round gauge: where its needle stands on the scale",
        max_drop=limit,
        max_slice_drop=limit,
        report=arguments.report,
        work=folder / "work",
    )


def evaluation(count: int) -> Samples:
    """Dials that no trained one resembles, under each condition."""
    parts = {c: pictures(KEPT_ASIDE, c, count, SEED + 4) for c in CONDITIONS}
    slices = [condition for condition in CONDITIONS for _ in range(count)]
    return _samples(list(parts.values()), slices, DATA)


def calibration() -> Samples:
    """Pictures of the trained kind, under all conditions at once."""
    return _samples([pictures(TRAINED, "everything", 256, SEED + 3)], (), "rendered dials")


def _samples(parts: Sequence[Pictures], slices: Sequence[str], about: str) -> Samples:
    images = np.concatenate([part.images for part in parts])
    values = np.concatenate([part.values for part in parts]).astype(np.float64)
    return Samples({"image": images}, None, values[:, None], slices, about)


def _unit(spec: TensorSpec, unit: str) -> TensorSpec:
    return dataclasses.replace(spec, unit=unit)


if __name__ == "__main__":
    main()
