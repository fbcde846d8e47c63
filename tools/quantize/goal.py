"""What a person asks for beside the model: the options that every subcommand has."""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from agent.errors import BadRequest
from tools.quantize.auto import Limit, parse_limit
from tools.quantize.libraries import missing
from tools.quantize.measure import ROUNDS
from tools.quantize.package import Identity

LINE = 200  # characters of a manifest's line
TENSORS = "npz, csv or folder"  # what models of tensors are judged on

Command = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Goal:
    """The common options.

    Attributes:
        out: the package's directory; None builds and reports without packaging.
        name: of the package; empty takes the source's.
        version: of the package.
        license: of the model, an SPDX expression.
        summary: one line.
        evaluate: the evaluation set; None where the family has one of its own.
        max_drop: the largest loss on the whole set.
        max_slice_drop: the largest loss on any slice.
        auto: try the recipes in order of size and keep the smallest that passes.
        recipe: the one to build; empty takes the family's first.
        report: directory for the JSON and HTML reports; None prints only.
        work: where long steps are kept.
        fresh: forget what an earlier run has kept.
        rounds: turns in which each model is timed.
    """

    out: Path | None
    name: str = ""
    version: str = "1.0.0"
    license: str = "NOASSERTION"
    summary: str = ""
    evaluate: Path | None = None
    max_drop: Limit | None = None
    max_slice_drop: Limit | None = None
    auto: bool = False
    recipe: str = ""
    report: Path | None = None
    work: Path = Path("edge-quantize-work")
    fresh: bool = False
    rounds: int = ROUNDS

    def identity(self, source: str, made: str = "") -> Identity:
        """The package's identity; name and summary say what it was made of where none was given."""
        said = self.summary or ": ".join(filter(None, [Path(source).name, made]))
        return Identity(self.name or slug(source), self.version, self.license, said[:LINE])


def slug(source: str) -> str:
    """A package name from a file's or folder's name: ``Kws_Ref.v2.onnx`` -> ``kws-ref-v2``."""
    stem = re.sub(r"\.(onnx|tflite|safetensors|gguf)\Z", "", Path(source).name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", stem.lower()).strip("-")[:63] or "model"


def default_work() -> Path:
    """``$XDG_CACHE_HOME/edge-quantize``, or the same under ``~/.cache``."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "edge-quantize"


def _limit(_: click.Context, __: click.Parameter, text: str | None) -> Limit | None:
    return parse_limit(text) if text is not None else None


_PATH = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, file_okay=False)

_OF_THE_PACKAGE = (
    click.option("--out", type=_FOLDER, help="Package directory; without it nothing is packaged."),
    click.option(
        "--name",
        default="",
        metavar="NAME",
        help="Of the package.  [default: made of the source's]",
    ),
    click.option("--version", default="1.0.0", show_default=True, help="Of the package."),
    click.option(
        "--license", default="NOASSERTION", show_default=True, help="Of the model, SPDX expression."
    ),
    click.option("--summary", default="", help="One line about the model."),
)
_OF_WHAT_PASSES = (
    click.option(
        "--max-drop",
        callback=_limit,
        metavar="LIMIT",
        help="Refuse to package what lost more: 1% of the value, or 0.01 in the metric's unit.",
    ),
    click.option(
        "--max-slice-drop", callback=_limit, metavar="LIMIT", help="The same, for every slice."
    ),
    click.option(
        "--auto", is_flag=True, help="Try recipes by size; keep the smallest that passes."
    ),
)
_OF_THE_RUN = (
    click.option("--report", type=_FOLDER, help="Directory for report.json and report.html."),
    click.option(
        "--work",
        type=_FOLDER,
        envvar="EDGE_QUANTIZE_WORK",
        default=default_work,
        help="Where long steps are kept, so that interrupted work resumes.  "
        "[default: ~/.cache/edge-quantize]",
    ),
    click.option("--fresh", is_flag=True, help="Forget what an earlier run has kept."),
    click.option(
        "--rounds",
        type=click.IntRange(1, 1000),
        default=ROUNDS,
        show_default=True,
        help="Turns in which each model is timed.",
    ),
)


def no_recipe(name: str, names: Sequence[str]) -> BadRequest:
    """What is said of a recipe that a family does not have."""
    hint = f"The recipes are: {', '.join(names)}"
    return BadRequest(f'there is no recipe "{name[:60]}"', where="--recipe", hint=hint)


def _recipe(names: Sequence[str]) -> Callable[[Command], Command]:
    """The option, which is judged before anything is read."""

    def known(_: click.Context, __: click.Parameter, name: str) -> str:
        if name and name not in names:
            raise no_recipe(name, names)
        return name

    return click.option(
        "--recipe",
        default="",
        callback=known,
        metavar="NAME",
        help=f"Build this one: {', '.join(names)}.  [default: the first]",
    )


def goal_options(recipes: Sequence[str], evaluation: str = TENSORS) -> Callable[[Command], Command]:
    """Give a subcommand the common options, handed to it as `goal`.

    Args:
        recipes: the names of those that its family has, the default first.
        evaluation: what it is judged on, for the help of ``--evaluate``.
    """
    evaluate = click.option("--evaluate", type=_PATH, help=f"Evaluation set: {evaluation}.")
    options = (*_OF_THE_PACKAGE, evaluate, *_OF_WHAT_PASSES, _recipe(recipes), *_OF_THE_RUN)

    def with_options(command: Command) -> Command:
        @wraps(command)
        def collected(**options: Any) -> Any:
            goal = Goal(**{name: options.pop(name) for name in Goal.__slots__})
            if goal.auto and goal.recipe:
                message = "--auto tries every recipe, --recipe names the one to build"
                raise BadRequest(message, where="--recipe", hint="Give one of the two")
            try:
                return command(goal=goal, **options)
            except ModuleNotFoundError as error:
                raise missing(error.name or str(error)) from error

        finished: Command = collected
        for option in reversed(options):
            finished = option(finished)
        return finished

    return with_options
