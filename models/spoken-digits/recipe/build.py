"""Rebuild the model from nothing: voices from a seed, a tokenizer, training, conversion, package.

    python models/spoken-digits/recipe/build.py [--out DIR] [--report DIR] [--folder DIR]

Needs the workstation's environment (make workstation); about half an hour on one core. --folder keeps
the Hugging Face folder and the evaluation set, for `edge-quantize whisper`. The same versions on the
same kind of processor give the same bytes.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import torch  # noqa: E402
from speech import EACH, KEPT_VOICES, Bank, kept_aside, write_set  # noqa: E402
from tokens import save, tokenizer  # noqa: E402
from train import train  # noqa: E402
from transformers import WhisperFeatureExtractor  # noqa: E402

from tools.quantize.goal import Goal  # noqa: E402
from tools.quantize.run import quantize  # noqa: E402
from tools.quantize.whisper.family import WhisperFamily  # noqa: E402
from tools.quantize.whisper.recordings import read  # noqa: E402

SEED = 1
DATA = (
    f"One to five digits in a row, said by {3 * KEPT_VOICES} synthetic voices that training has nothing "
    f"of, {EACH} times in each noise; the machine is a motor that turns lower and beats faster than any noise of training."
)
LIMITS = (
    "A small Whisper to try the way from a model to a device with: it knows the ten English digits and no "
    "other word, said by a formant synthesizer, never by a person. What it hears in anything else is "
    "digits too. Not for use with people's voices."
)
SUMMARY = "English digits said by a synthesizer: a Whisper of under a million weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent)
    parser.add_argument("--report", type=Path)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary, "whisper")
        heard = read(source(folder))
        family = WhisperFamily(
            folder, heard, golden=heard.each[0].samples(), data=DATA, limits=LIMITS
        )
        quantize(family, goal(arguments, Path(temporary)), "spoken-digits", "whisper")


def source(folder: Path) -> Path:
    """Train into a Hugging Face folder, and write the evaluation set beneath it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = tokenizer()
    train(tokens, Bank.of(SEED), SEED).save_pretrained(folder)
    save(folder, tokens)
    WhisperFeatureExtractor().save_pretrained(folder)
    kept = folder / "kept-aside"
    kept.mkdir(exist_ok=True)
    return write_set(kept, kept_aside(SEED + 1))


def goal(arguments: argparse.Namespace, temporary: Path) -> Goal:
    return Goal(
        out=arguments.out,
        name="spoken-digits",
        license="Apache-2.0",
        summary=SUMMARY,
        recipe="int8-float16",
        report=arguments.report,
        work=temporary / "work",
    )


if __name__ == "__main__":
    main()
