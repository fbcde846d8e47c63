"""The manifest with the evaluation card."""

from collections.abc import Mapping, Sequence

from agent.tasks.anomaly.windows import Shape

NAME, VERSION = "pump-anomaly", "1.0.0"
ZERO, THRESHOLD, MARGIN = -3.0, 1.5, 1.5  # log-odds

CARD = "Wrote {path}"

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


def manifest(
    files: Mapping[str, tuple[str, int]],
    shape: Shape,
    scale: float,
    output_scale: float,
    cases: Sequence[str],
    metrics: Sequence[tuple[str, str, float]],
) -> str:
    """The text of model.toml.

    Args:
        files: path -> SHA-256 and size.
        shape: how windows are cut.
        scale: of the quantized input.
        output_scale: of the quantized output.
        cases: names of the golden cases.
        metrics: name, slice and value of each measurement.
    """
    roles = {"model.onnx": "model", "golden.npz": "golden"}
    parts = [
        f"""\
format = 1
name = "{NAME}"
version = "{VERSION}"
task = "anomaly"
engine = "onnx"
summary = "Early warnings from pumps and other machines, on any set of sensors"
license = "Apache-2.0"
""",
        *(
            f'[[files]]\npath = "{path}"\nrole = "{roles[path]}"\nsha256 = "{digest}"\nsize = {size}\n'
            for path, (digest, size) in files.items()
        ),
        f"""\
[[inputs]]
name = "window"
dtype = "INT8"
shape = [-1, 3, {shape.points}]
unit = "inverse hyperbolic sine of healthy standard deviations"
quantization = {{ scale = {scale!r}, zero_point = 0 }}

[[outputs]]
name = "evidence"
dtype = "INT8"
shape = [-1, 2]
unit = "log-odds that machine and sensor are faulty"
quantization = {{ scale = {output_scale!r}, zero_point = 0 }}

[resources]
memory_mib = 8
threads = 1

[parameters]
smooth = {shape.smooth}    # rows of the trailing mean
points = {shape.points}    # points of a window
step = {shape.step}       # rows between two points
zero = {ZERO}    # log-odds of the score 0
threshold = {THRESHOLD}  # log-odds of the score 1
margin = {MARGIN}     # least log-odds from a device's own healthy past to its threshold

[evaluation]
data = "{DATA}"
limits = "{LIMITS}"
""",
        *(
            f'[[evaluation.metrics]]\nname = "{name}"\nslice = "{part}"\nvalue = {value:g}\n'
            for name, part, value in metrics
        ),
        *(f'[[golden]]\nname = "{case}"\nfile = "golden.npz"\ntolerance = 2.0\n' for case in cases),
    ]
    return "\n".join(parts)
