"""A classifier's graph with its tokenizer, judged by the labels that it gives, by slice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from agent.tasks.classification.classifier import MAX_TEXTS, Classifier
from agent.tasks.classification.labels import Labelled, labelling
from agent.tasks.embedding.encoder import TOKENIZER
from tools.quantize.encoder.family import Declared, EncoderFamily
from tools.quantize.family import Artifact, Description, GoldenInput, Progress, Score
from tools.quantize.tensors import session

METRIC = "accuracy"
REJECTED = "in scope but rejected"
CALIBRATION = "expected calibration error"
BINS = 10  # of confidence, equally wide


class Question(NamedTuple):
    """A text, its label (the manifest's `out_of_scope` for none), and the slices that it belongs to."""

    text: str
    label: str
    slices: tuple[str, ...] = ()


@dataclass(slots=True)
class ClassifierFamily(EncoderFamily):
    """The family of one classifier of texts.

    Attributes:
        questions: what it is judged on.
        data: what the questions are, for the evaluation card.
        limits: where the model must not be used.
        tolerance: of golden cases, in logits.
    """

    questions: Sequence[Question] = ()
    data: str = ""
    limits: str = ""
    tolerance: float = 0.5

    def _judged_on(self) -> Sequence[object]:
        return self.questions

    def evaluate(
        self,
        original: Artifact,  # noqa: ARG002
        artifact: Artifact,
        progress: Progress,
    ) -> Sequence[Score]:
        """Share of right decisions by slice, and how far confidences are from what comes true."""
        found = self._answers(artifact, progress)
        outside = labelling(self.settings).out_of_scope
        right = np.array(
            [
                (each.label or outside) == question.label
                for each, question in zip(found, self.questions, strict=True)
            ]
        )
        return [*self._accuracies(right), *self._rejections(found), *self._calibration(found)]

    def _accuracies(self, right: NDArray[np.bool_]) -> Iterator[Score]:
        names = dict.fromkeys(name for question in self.questions for name in question.slices)
        for name in ("all", *names):
            own = np.array([name == "all" or name in q.slices for q in self.questions])
            yield Score(METRIC, float(right[own].mean()), name, int(own.sum()))

    def _rejections(self, found: Sequence[Labelled]) -> Iterator[Score]:
        outside = labelling(self.settings).out_of_scope
        asked = [(q, not f.in_scope) for q, f in zip(self.questions, found, strict=True)]
        asked = [(question, rejected) for question, rejected in asked if question.label != outside]
        for name in dict.fromkeys(question.slices[0] for question, _ in asked if question.slices):
            own = [rejected for question, rejected in asked if question.slices[0] == name]
            share = sum(own) / len(own)
            yield Score(REJECTED, share, name, len(own), higher_is_better=False)

    def _calibration(self, found: Sequence[Labelled]) -> Iterator[Score]:
        outside = labelling(self.settings).out_of_scope
        pairs = [
            (each.confidence, each.ranked[0][0] == question.label)
            for each, question in zip(found, self.questions, strict=True)
            if question.label != outside and each.ranked[0][0] != outside
        ]
        if pairs:
            shares, right = (np.array(column) for column in zip(*pairs, strict=True))
            error = calibration_error(shares, right)
            yield Score(CALIBRATION, error, "in scope", len(pairs), higher_is_better=False)

    def _answers(self, artifact: Artifact, progress: Progress) -> list[Labelled]:
        texts = [question.text for question in self.questions]
        loaded = session.opened(artifact)
        try:
            declared = Declared(loaded.inputs, loaded.outputs, self.settings)
            classifier = Classifier(declared, {TOKENIZER: self.tokenizer})
            found: list[Labelled] = []
            for begin in range(0, len(texts), MAX_TEXTS):
                progress("Asking questions", begin / len(texts))
                found += classifier.classify(loaded.run, texts[begin : begin + MAX_TEXTS])
        finally:
            loaded.close()
        return found

    def describe(self, artifact: Artifact) -> Description:
        made = self.graph.describe(artifact)
        golden: list[GoldenInput] = [replace(g, tolerance=self.tolerance) for g in made.golden]
        return replace(
            made,
            task="text-classification",
            parameters=self.settings,
            golden=golden,
            data=self.data,
            limits=self.limits,
        )


def calibration_error(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error (Naeini and others 2015), 0 to 1: claimed less true, by bins."""
    bins = np.minimum((confidences * BINS).astype(int), BINS - 1)
    parts = [bins == number for number in range(BINS)]
    gaps = [abs(float(confidences[p].sum() - right[p].sum())) for p in parts if p.any()]
    return sum(gaps) / len(confidences)
