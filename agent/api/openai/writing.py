"""An answer that a thread writes and the event loop reads.

The thread goes ahead of the reader by a bounded number of parts; when the reader goes away, the model
stops writing.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from time import perf_counter

from agent.api.ports import ModelPort
from agent.engines.generation import Cancellation, Finish, GenerationRequest, Part, TextSession
from agent.errors import BadRequest, TooMany
from agent.telemetry.metrics import REQUEST_BUCKETS, Metrics

MAX_WRITING = 16  # answers that are written or waited for at once
AHEAD = 256  # parts that are written before the reader has taken them


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
    """Has language models write. Used from one event loop."""

    def __init__(self, metrics: WritingMetrics) -> None:
        self._metrics = metrics
        self._writing = 0
        self._threads: ThreadPoolExecutor | None = None

    async def write(
        self, model: ModelPort, request: GenerationRequest
    ) -> AsyncGenerator[Part, None]:
        """The parts of an answer; closing it stops the model.

        Raises:
            BadRequest: the model does not write text.
            TooMany: too many answers are under way.
            AgentError: as `TextSession.generate`.
        """
        session = text_session(model)
        if self._writing >= MAX_WRITING:
            raise TooMany(f"{MAX_WRITING} answers are under way already")
        held = ExitStack()  # until the thread ends, also when another version takes over
        held.enter_context(model.hold())
        self._writing += 1
        writing = _Writing(session, request)
        started = perf_counter()
        job = self._pool().submit(writing.run)
        job.add_done_callback(lambda _: held.close())
        try:
            async for part in writing.parts():
                if started:
                    self._metrics.first.observe(perf_counter() - started, model.ref.name)
                    started = 0.0
                if isinstance(part, Finish):
                    self._count(model.ref.name, part)
                yield part
        finally:
            writing.cancellation.cancel()
            # The place is given back when the thread ends, not when its reader goes away.
            loop = asyncio.get_running_loop()
            job.add_done_callback(lambda _: _tell(loop, self._leave))

    def close(self) -> None:
        """Let the threads go. Idempotent."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    def _leave(self) -> None:
        self._writing -= 1

    def _count(self, model: str, finish: Finish) -> None:
        tokens = self._metrics.tokens
        tokens.inc(finish.prompt_tokens, model, "prompt")
        tokens.inc(finish.cached_tokens, model, "cached")
        tokens.inc(finish.completion_tokens, model, "answer")

    def _pool(self) -> ThreadPoolExecutor:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(MAX_WRITING, thread_name_prefix="write")
        return self._threads


def text_session(model: ModelPort) -> TextSession:
    """The session of a model that writes text. Raises BadRequest."""
    session = model.session
    if not isinstance(session, TextSession):
        message = f"the model does not write text: its task is {model.manifest.task}"
        raise BadRequest(message, where="model")
    return session


class _Writing:
    """One answer."""

    def __init__(self, session: TextSession, request: GenerationRequest) -> None:
        self.cancellation = Cancellation()
        self._session = session
        self._request = request
        self._loop = asyncio.get_running_loop()
        self._news = asyncio.Event()
        self._parts: deque[Part | Exception | None] = deque()
        self._room = threading.Semaphore(AHEAD)
        self.cancellation.then(self._unblock)

    def run(self) -> None:
        """Write; called in a thread."""
        try:
            for part in self._session.generate(self._request, self.cancellation):
                self._room.acquire()
                self._put(part)
                if self.cancellation():
                    return
        except Exception as error:  # noqa: BLE001 (the reader gets it)
            self._put(error)
        finally:
            self._put(None)

    async def parts(self) -> AsyncGenerator[Part, None]:
        """What was written, as it comes."""
        while True:
            while self._parts:
                part = self._parts.popleft()
                if part is None:
                    return
                if isinstance(part, Exception):
                    raise part
                self._room.release()
                yield part
            self._news.clear()
            if not self._parts:
                await self._news.wait()

    def _unblock(self) -> None:
        self._room.release()

    def _put(self, part: Part | Exception | None) -> None:
        self._parts.append(part)
        _tell(self._loop, self._news.set)


def _tell(loop: asyncio.AbstractEventLoop, act: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody listens any more
        loop.call_soon_threadsafe(act)
