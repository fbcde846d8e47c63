"""`edge-quantize onnx` and `edge-quantize torch`."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from agent.types import TensorSpec
from tools.quantize import folder as hugging_face
from tools.quantize import hub
from tools.quantize.goal import Goal
from tools.quantize.onnx import export, source
from tools.quantize.onnx.family import OnnxFamily, OnnxSource
from tools.quantize.onnx.recipes import SUMMARIES, check_calibration
from tools.quantize.progress import Display
from tools.quantize.run import prepared
from tools.quantize.subcommand import subcommand
from tools.quantize.tensors.options import tensor_options
from tools.quantize.tensors.samples import Samples, generated, read_samples

CALIBRATION_EVERY = 4  # of the evaluation set, where no calibration set is given


def graph_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options of every subcommand that makes an ONNX graph of tensors."""
    for option in (
        click.option("--per-tensor", is_flag=True, help="One scale a tensor instead of a channel."),
        click.option(
            "--output",
            default="",
            metavar="NAME",
            help="The output that decides.  [default: the first]",
        ),
        tensor_options,
        click.option(
            "--calibrate",
            type=click.Path(path_type=Path),
            help="Calibration set.  [default: a quarter of the evaluation set, not evaluated on]",
        ),
    ):
        command = option(command)
    return command


@subcommand(SUMMARIES)
@click.argument("source_path", metavar="SOURCE", type=click.Path(path_type=Path))
@graph_options
def onnx(source_path: Path, goal: Goal, **options: Any) -> None:
    """Quantize SOURCE: an ONNX file, a folder with one, or a Hugging Face folder or name.

    Without --out nothing is packaged: the report says what the recipe would give.
    """
    name = str(source_path)
    found = hub.folder(source_path, goal.work)
    if found.is_dir() and hugging_face.is_transformers(found):
        hugging_face.check(found)
        run(lambda d: export.from_transformers(found, goal.work, d), goal, name, "onnx", **options)
    else:
        path = source.find(found)
        run(lambda _: nullcontext(path), goal, name, "onnx", **options)


@subcommand(SUMMARIES)
@click.argument("weights", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--builder",
    required=True,
    metavar="FILE.py:FUNCTION",
    help="Returns the module and an example input; module:function does as well.",
)
@graph_options
def torch(weights: Path, builder: str, goal: Goal, **options: Any) -> None:
    """Quantize WEIGHTS, a torch state dict in safetensors, by way of ONNX."""
    export.check(weights)
    made = partial(export.from_state_dict, weights, builder, goal.work)
    run(made, goal, str(weights), "torch", **options)


def run(
    graph_of: Callable[[Display], AbstractContextManager[Path]],
    goal: Goal,
    name: str,
    kind: str,
    *,
    calibrate: Path | None,
    metric: str,
    output: str,
    per_tensor: bool,
    task: str,
) -> None:
    """Quantize the ONNX file that a step makes as the options say, and hold it meanwhile. Raises as `run.prepared`."""

    @contextmanager
    def family(display: Display) -> Iterator[OnnxFamily]:
        with graph_of(display) as path:
            evaluation, calibration = sets(source.specs(path), goal.evaluate, calibrate)
            yield OnnxFamily(
                OnnxSource(path, evaluation, calibration, metric, output, not per_tensor, task)
            )

    prepared(family, goal, name, kind)


def sets(
    specs: list[TensorSpec], evaluate: Path | None, calibrate: Path | None
) -> tuple[Samples, Samples]:
    """The evaluation set and the calibration set, which have no sample in common.

    Raises:
        BadPayload: a set cannot be read, is not of the model's shapes and dtypes, or is too small.
    """
    evaluation = read_samples(evaluate, specs) if evaluate else generated(specs)
    if calibrate:
        calibration = read_samples(calibrate, specs)
        return evaluation, check_calibration(calibration, str(calibrate))
    if not evaluate:
        return evaluation, check_calibration(generated(specs, seed=1), "generated inputs")
    rows = np.arange(len(evaluation))
    # At random, for sets are often in an order: every fourth sample may be of one class.
    aside = np.random.default_rng(0).permutation(len(rows)) % CALIBRATION_EVERY == 0
    calibration = check_calibration(evaluation.take(rows[aside]), f"a quarter of {evaluate}")
    return evaluation.take(rows[~aside]).about_part("not calibrated on"), calibration
