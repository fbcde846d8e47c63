"""Language models behind the API: what is counted of an answer while it is written."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from time import perf_counter

from agent.api.openai.ahead import Producers
from agent.api.ports import ModelPort
from agent.engines.generation import Finish, GenerationRequest, Part, TextSession
from agent.errors import BadRequest
from agent.telemetry.metrics import REQUEST_BUCKETS, Metrics

MAX_WRITING = 16  # answers that are written or waited for at once


class WritingMetrics:
    """What is counted for each language model."""

    def __init__(self, metrics: Metrics) -> None:
        self.tokens = metrics.counter(
            "edge_agent_generation_tokens_total",
            "Tokens of language models, of prompts, remembered of prompts, and of answers",
            ("model", "kind"),
        )
        self.first = metrics.histogram(
            "edge_agent_generation_first_token_seconds",
            "Time from a whole request to the first token of its answer",
            REQUEST_BUCKETS,
            ("model",),
        )


class Writers:
    """Has language models write. Used from one event loop.

    Attributes:
        producers: the answers under way.
    """

    def __init__(self, metrics: WritingMetrics) -> None:
        self.producers = Producers(MAX_WRITING, "write")
        self._metrics = metrics

    async def write(
        self, model: ModelPort, request: GenerationRequest
    ) -> AsyncGenerator[Part, None]:
        """The parts of an answer; closing it stops the model.

        Raises:
            BadRequest: the model does not write text.
            TooMany: too many answers are under way.
            AgentError: as `TextSession.generate`.
        """
        started = perf_counter()
        source = partial(text_session(model).generate, request)
        async with aclosing(self.producers.parts(model, source)) as parts:
            async for part in parts:
                if started:
                    self._metrics.first.observe(perf_counter() - started, model.ref.name)
                    started = 0.0
                if isinstance(part, Finish):
                    self._count(model.ref.name, part)
                yield part

    def close(self) -> None:
        """Let the threads go. Idempotent."""
        self.producers.close()

    def _count(self, model: str, finish: Finish) -> None:
        tokens = self._metrics.tokens
        tokens.inc(finish.prompt_tokens, model, "prompt")
        tokens.inc(finish.cached_tokens, model, "cached")
        tokens.inc(finish.completion_tokens, model, "answer")


def text_session(model: ModelPort) -> TextSession:
    """The session of a model that writes text. Raises BadRequest."""
    session = model.session
    if not isinstance(session, TextSession):
        message = f"the model does not write text: its task is {model.manifest.task}"
        raise BadRequest(message, where="model")
    return session
