"""`edge-quantize whisper`."""

from pathlib import Path

import click

from tools.quantize import hub
from tools.quantize.goal import Goal
from tools.quantize.run import quantize
from tools.quantize.subcommand import subcommand
from tools.quantize.whisper import recordings
from tools.quantize.whisper.conversion import SUMMARIES
from tools.quantize.whisper.family import WhisperFamily


@subcommand(SUMMARIES, "JSON lines that name recordings, see above")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "--language",
    default="",
    metavar="CODE",
    help='Of what is said, such as "en".  [default: detected, where the model knows several]',
)
def whisper(source: Path, goal: Goal, language: str) -> None:
    """Quantize SOURCE, a Hugging Face folder of a Whisper, for CTranslate2.

    It is judged by its word error rate on --evaluate, a file of JSON lines:
    {"audio": "x.wav", "text": "…"}, with "slice": "…" if you like; 16-bit mono wave files of 16 kHz.
    """
    heard = recordings.read(goal.evaluate)
    folder = hub.folder(source, goal.work)
    quantize(WhisperFamily(folder, heard, language), goal, str(source), "whisper")
