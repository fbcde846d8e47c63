"""How good a language model is: perplexity, and agreement with the float model."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import ChatMessage, Chosen, GenerationRequest, Piece, Sampling
from agent.processors import usable
from tools.quantize.family import Artifact, Progress, Score
from tools.quantize.language.judged import Passage
from tools.quantize.language.texts import Prompt

AGREEMENT, PERPLEXITY = "first-token agreement", "perplexity"
SHARE = 0.5  # of the work, for the progress


def opened(artifact: Artifact) -> GenAiSession:
    """A session over an artifact, on all processors."""
    files = {name: (artifact.directory / name).read_bytes() for name in artifact.files}
    return GenAiSession(b"", EngineOptions(usable(), files, {}))


def perplexity(
    session: GenAiSession, passages: Sequence[Passage], progress: Progress
) -> list[Score]:
    """Over all passages, and by slice; each token given all before it in its passage."""
    losses = defaultdict(list)
    for number, passage in enumerate(passages):
        progress(f"Reading text {number + 1}", SHARE + SHARE * number / len(passages))
        losses[passage.kind].append(_loss(session, passage.text))
    parts = {kind: np.concatenate(found) for kind, found in losses.items()}
    return [
        _perplexity(np.concatenate(list(parts.values())), "all"),
        *(_perplexity(loss, kind) for kind, loss in parts.items()),
    ]


def first_tokens(session: GenAiSession, prompts: Sequence[Prompt], progress: Progress) -> list[str]:
    """The likeliest first token of the answer to each question; empty where it is the end."""
    found = []
    for number, prompt in enumerate(prompts):
        progress("Asking questions", SHARE * number / len(prompts))
        messages = (ChatMessage("user", prompt.text),)
        request = GenerationRequest(messages, max_tokens=1, sampling=Sampling(temperature=0), top=0)
        chosen = [c for p in session.generate(request) if isinstance(p, Piece) for c in p.tokens]
        found.append(_text(chosen))
    return found


def agreement(
    prompts: Sequence[Prompt], expected: Sequence[str], found: Sequence[str]
) -> list[Score]:
    """Share of questions whose answer begins as the float model's does, and by kind."""
    same = [one == other for one, other in zip(expected, found, strict=True)]
    kinds = defaultdict(list)
    for prompt, value in zip(prompts, same, strict=True):
        kinds[prompt.kind].append(value)
    scores = [Score(AGREEMENT, float(np.mean(same)), "all", len(same))]
    return scores + [Score(AGREEMENT, float(np.mean(v)), k, len(v)) for k, v in kinds.items()]


def _loss(session: GenAiSession, text: str) -> np.ndarray:
    """Negative log-likelihood of each token but the first, natural logarithm."""
    tokens = session.tokens(GenerationRequest(text=text))
    losses = np.empty(max(len(tokens) - 1, 0))
    for place in range(1, len(tokens)):
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
