"""`edge-quantize language`."""

from pathlib import Path

import click

from tools.quantize import hub
from tools.quantize.goal import Goal
from tools.quantize.language.family import LanguageFamily, LanguageSource
from tools.quantize.language.recipes import SUMMARIES
from tools.quantize.run import quantize
from tools.quantize.subcommand import subcommand


@subcommand(SUMMARIES, "JSON lines, see above")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--context",
    type=click.IntRange(min=1),
    default=2048,
    show_default=True,
    metavar="TOKENS",
    help="The window that is offered.",
)
@click.option(
    "--conversations",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="That a device remembers at once.",
)
def language(source: Path, goal: Goal, context: int, conversations: int) -> None:
    """Quantize SOURCE, a GGUF file or a Hugging Face folder or name, for onnxruntime-genai.

    It is judged on texts and questions of the project's own, or on --evaluate, a file of JSON lines:
    {"prompt": "…"} or {"text": "…"}, with "slice": "…" if you like.
    """
    found = hub.folder(source, goal.work)
    given = LanguageSource(found, context, conversations, goal.evaluate)
    quantize(LanguageFamily(given), goal, str(source), "language")
