"""How the next token is chosen from a model's logits. Pure.

Temperature, top-k and top-p as in Holtzman et al., "The Curious Case of Neural Text Degeneration"
(2020); the repetition penalty as in Keskar et al., "CTRL" (2019); frequency and presence penalties
as in OpenAI's API. A vocabulary has tens of thousands of tokens and a small model gives hundreds of
tokens a second, so nothing here sorts what cannot be chosen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.engines.generation import Sampling

Logits = NDArray[np.float32]
Ids = NDArray[np.intp]

#: How far below the likeliest token, in logits, candidates for top-p are looked for at first.
#: Nearly always the nucleus is within; when it is not, every token is a candidate.
NEAR = 8.0

#: Temperatures below this take the likeliest token always: float32 cannot divide by much less.
GREEDY = 1e-6


def greedy(sampling: Sampling) -> bool:
    """Whether the likeliest token is taken always."""
    return sampling.temperature < GREEDY


class Sampler:
    """Chooses the tokens of one answer.

    Args:
        sampling: how.
        prompt: tokens before the answer, which the repetition penalty counts too.
    """

    def __init__(self, sampling: Sampling, prompt: Sequence[int] = ()) -> None:
        self._sampling = sampling
        self._penalised = sampling.repetition_penalty != 1.0
        self._seen = set(prompt) if self._penalised else set()
        self._counts: dict[int, int] = {}
        self._counted = bool(sampling.frequency_penalty or sampling.presence_penalty)
        self._random = None if greedy(sampling) else np.random.default_rng(sampling.seed)

    def choose(self, logits: Logits) -> int:
        """The next token, given the logits, float32 [vocabulary]; they are not changed."""
        logits = self._with_penalties(logits)
        token = int(logits.argmax()) if self._random is None else self._drawn(logits)
        if self._penalised:
            self._seen.add(token)
        if self._counted:
            self._counts[token] = self._counts.get(token, 0) + 1
        return token

    def _drawn(self, logits: Logits) -> int:
        assert self._random is not None
        ids, weights = candidates(logits, self._sampling)
        total = np.cumsum(weights, dtype=np.float64)
        place = int(np.searchsorted(total, self._random.random() * total[-1], side="right"))
        place = min(place, len(total) - 1)
        return place if ids is None else int(ids[place])

    def _with_penalties(self, logits: Logits) -> Logits:
        if not (self._seen or self._counts):
            return logits
        logits = logits.copy()
        if self._seen:
            seen = np.fromiter(self._seen, np.intp, len(self._seen))
            values, penalty = logits[seen], np.float32(self._sampling.repetition_penalty)
            logits[seen] = np.where(values > 0, values / penalty, values * penalty)
        if self._counts:
            ids = np.fromiter(self._counts, np.intp, len(self._counts))
            counts = np.fromiter(self._counts.values(), np.float32, len(self._counts))
            logits[ids] -= self._sampling.frequency_penalty * counts
            logits[ids] -= self._sampling.presence_penalty
        return logits


def candidates(logits: Logits, sampling: Sampling) -> tuple[Ids | None, NDArray[np.float32]]:
    """The tokens that may be drawn, with weights in proportion to their probabilities.

    Returns:
        Ids and weights of the same length; ids are None when every token may be drawn, in order.
    """
    ids: Ids | None = None
    if 0 < sampling.top_k < len(logits):
        ids = np.argpartition(logits, -sampling.top_k)[-sampling.top_k :]
        logits = logits[ids]
    weights = np.exp((logits - logits.max()) / np.float32(sampling.temperature))
    if sampling.top_p >= 1.0:
        return ids, weights
    kept = _nucleus(weights, sampling.top_p)
    return kept if ids is None else ids[kept], weights[kept]


def _nucleus(weights: NDArray[np.float32], top_p: float) -> Ids:
    """The fewest tokens whose weights reach the share `top_p` of all, the likeliest first."""
    wanted = top_p * float(weights.sum(dtype=np.float64))
    ids = np.flatnonzero(weights > np.exp(-NEAR))
    if float(weights[ids].sum(dtype=np.float64)) < wanted:
        ids = np.arange(len(weights))
    ids = ids[np.argsort(-weights[ids], kind="stable")]
    reached = int(np.searchsorted(np.cumsum(weights[ids], dtype=np.float64), wanted))
    return ids[: reached + 1]


def likeliest(logits: Logits, token: int, top: int) -> tuple[float, list[tuple[int, float]]]:
    """The log probability of a token, and the likeliest tokens with theirs, the likeliest first."""
    highest = float(logits.max())
    rest = float(np.log(np.exp(logits - highest, dtype=np.float64).sum())) + highest
    found = np.argpartition(logits, -top)[-top:] if top else np.empty(0, np.intp)
    found = found[np.argsort(-logits[found], kind="stable")]
    return float(logits[token]) - rest, [(int(i), float(logits[i]) - rest) for i in found]
