"""A classifier: what its manifest says, and texts through it in batches."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from agent.errors import BadModel, BadPayload, EngineFailed
from agent.tasks.classification.labels import (
    WHERE,
    Labelled,
    decided,
    labelling,
    probabilities,
)
from agent.tasks.embedding.encoder import (
    MAX_WINDOW,
    TOKENIZER,
    EncoderManifest,
    Run,
    batches,
    check_inputs,
    padded,
)
from agent.tasks.embedding.tokens import Tokenizer
from agent.types import Array, TensorSpec

MAX_TEXT = 10_000  # characters of one text
MAX_TEXTS = 256  # of one call


class Classifier:
    """Texts to labels. Safe to call from several threads; the model is lent for each call.

    Args:
        manifest: of the model.
        files: verified ones of the package, among them the tokenizer.

    Raises:
        BadModel: the package is no classifier's; says what is missing or wrong.
        EngineMissing: the tokenizer's library is not installed.
    """

    def __init__(self, manifest: EncoderManifest, files: Mapping[str, bytes]) -> None:
        if TOKENIZER not in files:
            raise BadModel("the package holds no tokenizer", where=TOKENIZER)
        self._labelling = labelling(manifest.parameters)
        self._inputs = manifest.inputs
        check_inputs(self._inputs)
        self._output = _logits(manifest.outputs, len(self._labelling.labels))
        self._tokenizer = Tokenizer(files[TOKENIZER], _window(manifest.parameters))

    def classify(self, run: Run, texts: Sequence[str], top: int = 1) -> list[Labelled]:
        """What each text is about, in their order.

        Raises:
            BadPayload: too many texts, or one that is empty or too long.
            EngineFailed: as the model's run, or its logits are no numbers.
        """
        shares = self.shares(run, texts)
        return [decided(row, self._labelling, top) for row in shares]

    def shares(self, run: Run, texts: Sequence[str]) -> Array:
        """Calibrated confidence of every label, float64 [texts, labels]. Raises as `classify`."""
        _check(texts)
        ids = self._tokenizer.ids(texts)
        logits = np.zeros((len(ids), len(self._labelling.labels)))
        for batch in batches([len(tokens) for tokens in ids]):
            tensors, _ = padded([ids[n] for n in batch], self._inputs)
            logits[batch] = run(tensors)[self._output]
        if not np.isfinite(logits).all():
            raise EngineFailed("the model's logits are no numbers", where=self._output)
        return probabilities(logits, self._labelling.temperature)


class _Window(Struct, frozen=True):
    max_tokens: Annotated[int, Meta(ge=2, le=MAX_WINDOW)] = 256


def _window(parameters: Mapping[str, object]) -> int:
    try:
        return msgspec.convert(parameters, _Window).max_tokens
    except msgspec.ValidationError as error:
        raise BadModel(str(error)[:300], where=WHERE) from None


def _logits(outputs: Sequence[TensorSpec], labels: int) -> str:
    for spec in outputs:
        if len(spec.shape) == 2 and spec.dtype in {"FP32", "FP16"}:
            if spec.shape[1] in {-1, labels}:
                return spec.name
            message = f"{labels} labels for {spec.shape[1]} logits"
            raise BadModel(message, where=WHERE)
    raise BadModel("a classifier needs logits of 2 dimensions", where="model.toml: outputs")


def _check(texts: Sequence[str]) -> None:
    if not 0 < len(texts) <= MAX_TEXTS:
        raise BadPayload(f"from 1 to {MAX_TEXTS} texts in a request", where="input")
    for number, text in enumerate(texts):
        if not 0 < len(text) <= MAX_TEXT:
            message = f"the text has {len(text)} characters, from 1 to {MAX_TEXT} are allowed"
            raise BadPayload(message, where=f"input[{number}]")
