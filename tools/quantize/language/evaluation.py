"""How good a language model is: perplexity, and agreement with the float model."""

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import ChatMessage, Chosen, GenerationRequest, Piece, Sampling
from tools.quantize.family import Artifact, Progress, Score
from tools.quantize.language.texts import Prompt, evaluation_prompts, perplexity_text

AGREEMENT, PERPLEXITY = "first-token agreement", "perplexity"
SHARE = 0.5  # of the work, for the progress


def opened(artifact: Artifact) -> GenAiSession:
    """A session over an artifact, on all processors."""
    files = {name: (artifact.directory / name).read_bytes() for name in artifact.files}
    return GenAiSession(b"", EngineOptions(os.cpu_count() or 1, files, {}))


def perplexity(session: GenAiSession, progress: Progress) -> list[Score]:
    """Over the fixed text, as a whole and by paragraph, each token given all before it."""
    losses = [
        _loss(session, paragraph, n, progress)
        for n, paragraph in enumerate(perplexity_text().split("\n\n"))
    ]
    scores = [_perplexity(np.concatenate(losses), "all")]
    return scores + [_perplexity(loss, f"paragraph {n}") for n, loss in enumerate(losses, 1)]


def first_tokens(session: GenAiSession, progress: Progress) -> list[str]:
    """The likeliest first token of the answer to each question; empty where it is the end."""
    prompts = evaluation_prompts()
    found = []
    for number, prompt in enumerate(prompts):
        progress("Asking questions", SHARE + SHARE * number / len(prompts))
        messages = (ChatMessage("user", prompt.text),)
        request = GenerationRequest(messages, max_tokens=1, sampling=Sampling(temperature=0), top=0)
        chosen = [c for p in session.generate(request) if isinstance(p, Piece) for c in p.tokens]
        found.append(_text(chosen))
    return found


def agreement(expected: Sequence[str], found: Sequence[str]) -> list[Score]:
    """Share of questions whose answer begins as the float model's does, and by kind."""
    same = [one == other for one, other in zip(expected, found, strict=True)]
    kinds = defaultdict(list)
    for prompt, value in zip(evaluation_prompts(), same, strict=True):
        kinds[_kind(prompt)].append(value)
    scores = [Score(AGREEMENT, float(np.mean(same)), "all", len(same))]
    return scores + [Score(AGREEMENT, float(np.mean(v)), k, len(v)) for k, v in kinds.items()]


def _loss(session: GenAiSession, text: str, number: int, progress: Progress) -> np.ndarray:
    """Negative log-likelihood of each token but the first, natural logarithm."""
    tokens = session.tokens(GenerationRequest(text=text))
    losses = np.empty(len(tokens) - 1)
    for place in range(1, len(tokens)):
        progress(f"Reading paragraph {number + 1}", SHARE * place / len(tokens))
        logits = session.run({"tokens": tokens[:place]})["logits"].astype(np.float64)
        highest = logits.max()
        whole = highest + np.log(np.exp(logits - highest).sum())
        losses[place - 1] = whole - logits[tokens[place]]
    return losses


def _perplexity(losses: np.ndarray, part: str) -> Score:
    value = float(np.exp(losses.mean()))
    return Score(PERPLEXITY, value, part, len(losses), higher_is_better=False)


def _text(chosen: Sequence[Chosen]) -> str:
    return chosen[0].token if chosen else ""


def _kind(prompt: Prompt) -> str:
    return prompt.kind
