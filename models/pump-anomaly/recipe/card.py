"""The manifest's words: what the package is, how it is used, and where it ends."""

from collections.abc import Mapping, Sequence

from agent.tasks.anomaly.windows import Shape
from agent.types import Quantization, TensorSpec
from tools.quantize.family import Description, GoldenInput
from tools.quantize.package import Identity

IDENTITY = Identity(
    "pump-anomaly",
    "1.0.0",
    "Apache-2.0",
    "Early warnings from pumps and other machines, on any set of sensors",
)

ZERO, THRESHOLD, MARGIN = -3.0, 1.5, 1.5  # log-odds
MEMORY_MIB = 8

DATA = (
    "Pumps of the project's own simulator with seeds not trained on, 600 rows after a healthy past "
    "of 400: 60 with one of three faults each, and 20 healthy ones of 20,000 rows."
)
LIMITS = (
    "Warns of changes against the machine's own healthy past; it does not name the fault. The past "
    "must hold the loads that are normal later: a load never seen is reported as a change. Trained "
    "on rows of about one a second and on 2 to 11 sensors. No protection function: never wire a "
    "trip to it."
)


def description(
    shape: Shape, scales: Mapping[str, float], golden: Sequence[GoldenInput]
) -> Description:
    """What the manifest says beside files and figures.

    Args:
        shape: how windows are cut.
        scales: of the quantized input and output.
        golden: cases on both sides of the threshold.
    """
    window = TensorSpec(
        "window",
        "INT8",
        (-1, 3, shape.points),
        "inverse hyperbolic sine of healthy standard deviations",
        Quantization(scales["window"]),
    )
    evidence = TensorSpec(
        "evidence",
        "INT8",
        (-1, 2),
        "log-odds that machine and sensor are faulty",
        Quantization(scales["evidence"]),
    )
    parameters = {
        "smooth": shape.smooth,  # rows of the trailing mean
        "points": shape.points,  # points of a window
        "step": shape.step,  # rows between two points
        "zero": ZERO,  # log-odds of the score 0
        "threshold": THRESHOLD,  # log-odds of the score 1
        "margin": MARGIN,  # least log-odds from a device's own healthy past to its threshold
    }
    return Description(
        "anomaly",
        [window],
        [evidence],
        parameters,
        golden,
        memory_mib=MEMORY_MIB,
        data=DATA,
        limits=LIMITS,
    )
