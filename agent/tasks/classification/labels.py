"""From logits to labels with calibrated confidences, and whether a text is in scope at all. Pure."""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import msgspec
import numpy as np
from msgspec import Meta, Struct

from agent.errors import BadModel
from agent.types import Array

MAX_LABELS = 1000
WHERE = "model.toml: parameters"

Name = Annotated[str, Meta(min_length=1, max_length=64)]


class Labelling(Struct, frozen=True):
    """`[parameters]` of a classifier; unknown ones belong to others.

    Attributes:
        labels: of the logits, in their order.
        temperature: what logits are divided by (Guo and others 2017, On Calibration of Modern Neural
            Networks).
        out_of_scope: the label of texts that are about none of the others; empty when there is none.
        threshold: least confidence with which a text is about a label, 0 to 1.
    """

    labels: Annotated[tuple[Name, ...], Meta(min_length=2, max_length=MAX_LABELS)]
    temperature: Annotated[float, Meta(ge=0.01, le=100.0)] = 1.0
    out_of_scope: str = ""
    threshold: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0


class Labelled(NamedTuple):
    """What a text is about.

    Attributes:
        label: the likeliest one; None when the text is out of scope.
        confidence: that the best label is right, 0 to 1, whether it was good enough or not.
        ranked: labels with their confidences, the likeliest first, out of scope among them.
    """

    label: str | None
    confidence: float
    ranked: tuple[tuple[str, float], ...]

    @property
    def in_scope(self) -> bool:
        return self.label is not None


def labelling(parameters: Mapping[str, object]) -> Labelling:
    """What a manifest says of its labels.

    Raises:
        BadModel: it says too little, or what cannot be.
    """
    try:
        found = msgspec.convert(parameters, Labelling)
    except msgspec.ValidationError as error:
        raise BadModel(str(error)[:300], where=WHERE) from None
    if len(set(found.labels)) != len(found.labels):
        raise BadModel("a label is named twice", where=WHERE)
    if found.out_of_scope and found.out_of_scope not in found.labels:
        raise BadModel(f"out_of_scope is no label: {found.out_of_scope[:64]}", where=WHERE)
    return found


def probabilities(logits: Array, temperature: float) -> Array:
    """Softmax of the logits over the temperature, float64 [texts, labels]; rows sum to 1."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def decided(shares: Array, labelling: Labelling, top: int) -> Labelled:
    """The decision for one text.

    Args:
        shares: float [labels], sum 1.
        labelling: of the model.
        top: how many labels are told.
    """
    order = np.argsort(-shares, kind="stable")
    ranked = [(labelling.labels[n], float(shares[n])) for n in order]
    best, confidence = next(pair for pair in ranked if pair[0] != labelling.out_of_scope)
    sure = confidence >= labelling.threshold and confidence >= ranked[0][1]
    return Labelled(best if sure else None, confidence, tuple(ranked[:top]))
