"""`edge-quantize tflite`."""

from pathlib import Path

import click

from agent.errors import BadModel, BadRequest
from agent.types import TensorSpec
from tools.quantize.family import Artifact
from tools.quantize.goal import Goal
from tools.quantize.run import quantize
from tools.quantize.subcommand import subcommand
from tools.quantize.tensors.options import tensor_options
from tools.quantize.tensors.samples import SAMENESS, SOUNDNESS, generated, read_samples
from tools.quantize.tensors.session import opened, real_values
from tools.quantize.tflite import model
from tools.quantize.tflite.family import SUMMARIES, TfliteFamily

LEAST_QUANTIZED = 0.5  # of the weights


@subcommand(SUMMARIES)
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--float",
    "reference",
    type=click.Path(path_type=Path),
    help="The float file of the same model, to compare with.",
)
@tensor_options
def tflite(source: Path, goal: Goal, reference: Path | None, metric: str, task: str) -> None:
    """Check, judge and package SOURCE, a quantized TensorFlow Lite file.

    Integers in the evaluation set are stored values of SOURCE's input, real values are real.
    """
    path = model.check_file(source)
    if reference:
        model.check_file(reference)
    elif goal.max_drop or goal.max_slice_drop:
        raise BadRequest(
            "what was lost cannot be told without the float model",
            where="--max-drop",
            hint="Give its file with --float",
        )
    specs = _inputs(path)
    if reference:
        _check_same_inputs(reference, specs)
    if model.quantized_share(path) < LEAST_QUANTIZED:
        raise BadModel(
            "most of its weights are not quantized",
            where=str(path),
            hint="Convert it with the TensorFlow Lite converter's int8 option, or quantize ONNX",
        )
    shown = SAMENESS if reference else SOUNDNESS
    given = read_samples(goal.evaluate, specs) if goal.evaluate else generated(specs, shows=shown)
    family = TfliteFamily(path, reference, real_values(given, specs), metric, task)
    quantize(family, goal, str(source), "tflite")


def _check_same_inputs(reference: Path, specs: list[TensorSpec]) -> None:
    shapes, wanted = ([list(s.shape) for s in found] for found in (_inputs(reference), specs))
    if shapes != wanted:
        raise BadModel(
            f"not the same model in float: its inputs are {shapes}, those of the quantized one "
            f"{wanted}",
            where=str(reference),
        )


def _inputs(path: Path) -> list[TensorSpec]:
    try:
        session = opened(Artifact(path.parent, {path.name: "model"}, "tflite"))
    except BadModel as error:
        from tools.quantize.tflite.operators import located

        raise located(error, path) from error
    try:
        return list(session.inputs)
    finally:
        session.close()
