"""From an encoder's vectors of tokens to one vector of a text. Pure."""

from typing import Literal, TypeAlias

import numpy as np

from agent.types import Array

Pooling: TypeAlias = Literal["mean", "cls", "none"]

TINY = 1e-12  # a vector shorter than this has no direction


def pooled(output: Array, mask: Array, pooling: Pooling) -> Array:
    """One vector for each text, float32 [texts, width].

    Args:
        output: [texts, tokens, width]; [texts, width] for pooling "none".
        mask: [texts, tokens], 1 where there is a token.
        pooling: "mean" of the tokens (Reimers and Gurevych 2019, Sentence-BERT), "cls" for the first
            one's, or "none" where the model has pooled already.
    """
    vectors = output.astype(np.float32, copy=False)
    if pooling == "none":
        return vectors
    if pooling == "cls":
        return vectors[:, 0]
    weights = mask.astype(np.float32)[..., None]
    mean: Array = (vectors * weights).sum(axis=1) / np.maximum(weights.sum(axis=1), 1.0)
    return mean


def normalized(vectors: Array) -> Array:
    """Each row at length 1; a row without a direction stays as it is."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Array = vectors / np.maximum(lengths, TINY)
    return unit
