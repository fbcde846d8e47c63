"""An encoder's graph with its tokenizer, judged by the similarities that it gives."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.tasks.embedding.encoder import TOKENIZER, Encoder
from agent.types import Array, TensorSpec
from tools.quantize.encoder.pairs import PAIRS, pairs
from tools.quantize.family import (
    Artifact,
    Description,
    LayerError,
    Probe,
    Progress,
    Recipe,
    Score,
)
from tools.quantize.onnx.family import OnnxFamily
from tools.quantize.onnx.recipes import DynamicInt8, Int4Weights
from tools.quantize.tensors import session
from tools.quantize.work import work_key

METRIC = "spearman"
INNER = (DynamicInt8(), Int4Weights())
SUMMARIES = {recipe.name: recipe.summary for recipe in INNER}
BLOCK = 50  # texts between two looks at the progress


@dataclass(frozen=True, slots=True)
class Tokenized:
    """A recipe whose result has the tokenizer beside it."""

    inner: Recipe
    tokenizer: bytes
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.inner.name

    @property
    def summary(self) -> str:
        return self.inner.summary

    def build(self, original: Artifact, directory: Path, progress: Progress) -> Artifact:
        made = self.inner.build(original, directory, progress)
        return accompanied(replace(made, notes=(*made.notes, *self.notes)), self.tokenizer)

    def sparing(self, layers: Sequence[LayerError]) -> "Recipe | None":
        spared = self.inner.sparing(layers)
        return None if spared is None else replace(self, inner=spared)


@dataclass(slots=True)
class EncoderFamily:
    """The family of one encoder.

    Attributes:
        graph: the family of its ONNX graph, with tokenized texts as its samples.
        tokenizer: bytes of its `tokenizer.json`.
        settings: `[parameters]` of the manifest.
        notes: on the tokenizer, for the report.
    """

    graph: OnnxFamily
    tokenizer: bytes
    settings: dict[str, Any]
    notes: tuple[str, ...] = field(default=(), kw_only=True)
    _reference: NDArray[np.float64] | None = field(default=None, init=False)

    comparable = True

    @property
    def key(self) -> str:
        judged_on = self._judged_on()
        made_of = (self.graph.key, self.tokenizer, self.settings, judged_on, self.notes)
        return work_key("encoder", *made_of)

    def _judged_on(self) -> Sequence[object]:
        """All that is asked of the model: scores that are kept are of these."""
        return pairs()

    def needs_bytes(self) -> int:
        return self.graph.needs_bytes()

    def original(self, directory: Path, progress: Progress) -> Artifact:
        return accompanied(self.graph.original(directory, progress), self.tokenizer)

    def recipes(self) -> Sequence[Recipe]:
        return [Tokenized(each, self.tokenizer, self.notes) for each in INNER]

    def evaluate(
        self, original: Artifact, artifact: Artifact, progress: Progress
    ) -> Sequence[Score]:
        """Rank correlation of the pairs' similarities with the float model's (Spearman 1904)."""
        if self._reference is None:
            self._reference = self._similarities(original, progress)
        found = self._similarities(artifact, progress)
        slices = np.array([pair.slice for pair in pairs()])
        everything = np.full(len(slices), "all")
        return [
            Score(METRIC, spearman(self._reference[own], found[own]), name, int(own.sum()))
            for group in (everything, slices)
            for name in sorted(set(group.tolist()))
            for own in (group == name,)
        ]

    def _similarities(self, artifact: Artifact, progress: Progress) -> NDArray[np.float64]:
        texts = [text for pair in pairs() for text in (pair.first, pair.second)]
        loaded = session.opened(artifact)
        try:
            encoder = Encoder(Declared(loaded.inputs, loaded.outputs, self.settings), self._files)
            parts: list[Array] = []
            for begin in range(0, len(texts), BLOCK):
                progress("Comparing sentences", begin / len(texts))
                parts.append(encoder.embed(loaded.run, texts[begin : begin + BLOCK]).vectors)
        finally:
            loaded.close()
        vectors = np.concatenate(parts).astype(np.float64)
        similarities: NDArray[np.float64] = (vectors[::2] * vectors[1::2]).sum(axis=1)
        return similarities

    @property
    def _files(self) -> dict[str, bytes]:
        return {TOKENIZER: self.tokenizer}

    def parameters(self, original: Artifact) -> int:
        return self.graph.parameters(original)

    def worst_layers(self, original: Artifact, made: Artifact) -> Sequence[LayerError]:
        return self.graph.worst_layers(original, made)

    def probe(self, artifact: Artifact) -> Probe:
        return self.graph.probe(artifact)

    def describe(self, artifact: Artifact) -> Description:
        made = self.graph.describe(artifact)
        data = f"{PAIRS} generated pairs of English sentences, compared with the float model"
        return replace(made, task="embedding", parameters=self.settings, data=data)


@dataclass(frozen=True, slots=True)
class Declared:
    """What a manifest would say of a graph that has none yet."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    parameters: dict[str, Any]


def accompanied(artifact: Artifact, tokenizer: bytes) -> Artifact:
    """The artifact with the tokenizer beside the model."""
    (artifact.directory / TOKENIZER).write_bytes(tokenizer)
    return replace(artifact, files={**artifact.files, TOKENIZER: "data"})


def spearman(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Rank correlation; equal values share the mean of their ranks."""
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: NDArray[np.float64] = (last - (counts - 1) / 2)[place]
    return ranks
