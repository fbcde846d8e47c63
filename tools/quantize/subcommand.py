"""The options that every subcommand of `edge-quantize` has, and its help."""

import os
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import click

from agent.errors import BadRequest
from tools.quantize.auto import Limit, parse_limit
from tools.quantize.goal import Goal, no_recipe
from tools.quantize.libraries import missing
from tools.quantize.measure import ROUNDS

TENSORS = "npz, csv or folder"  # what models of tensors are judged on

Command = Callable[..., Any]


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


class FamilyCommand(click.Command):
    """A subcommand whose help ends with its recipes.

    Attributes:
        recipes: one line about each, by its name; the default first.
    """

    recipes: Mapping[str, str] = {}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, and what `--recipe` may be."""
        super().format_options(ctx, formatter)
        with formatter.section("Recipes, the default first"):
            formatter.write_dl(list(self.recipes.items()))


def subcommand(
    recipes: Mapping[str, str], evaluation: str = TENSORS
) -> Callable[[Command], click.Command]:
    """Make a subcommand of a function that is given the common options as `goal`.

    Args:
        recipes: those that its family has: one line about each, by its name; the default first.
        evaluation: what it is judged on, for the help of ``--evaluate``.
    """
    evaluate = click.option("--evaluate", type=_PATH, help=f"Evaluation set: {evaluation}.")
    options = (*_OF_THE_PACKAGE, evaluate, *_OF_WHAT_PASSES, _recipe(recipes), *_OF_THE_RUN)

    def made(function: Command) -> click.Command:
        finished = _collecting(function)
        for option in reversed(options):
            finished = option(finished)
        command = click.command(cls=FamilyCommand)(finished)
        command.recipes = recipes
        return command

    return made


def _recipe(recipes: Mapping[str, str]) -> Callable[[Command], Command]:
    """The option, which is judged before anything is read."""

    def known(_: click.Context, __: click.Parameter, name: str) -> str:
        if name and name not in recipes:
            raise no_recipe(name, list(recipes))
        return name

    return click.option(
        "--recipe",
        default="",
        callback=known,
        metavar="NAME",
        help="Build this one of those below.  [default: the first]",
    )


def _collecting(function: Command) -> Command:
    """The function with the common options as a goal, and a missing library told as what to install."""

    @wraps(function)
    def collected(**options: Any) -> Any:
        goal = Goal(**{name: options.pop(name) for name in Goal.__slots__})
        if goal.auto and goal.recipe:
            message = "--auto tries every recipe, --recipe names the one to build"
            raise BadRequest(message, where="--recipe", hint="Give one of the two")
        try:
            return function(goal=goal, **options)
        except ModuleNotFoundError as error:
            raise missing(error.name or str(error)) from error

    return collected
