"""A language model in a worker writes as it does in the daemon, and ends with its process."""

import os
import signal
from collections.abc import Iterable, Iterator

import numpy as np
import pytest

from agent.engines.base import EngineOptions
from agent.engines.catalog import load_session
from agent.engines.generation import (
    Cancellation,
    ChatMessage,
    Chosen,
    Constraint,
    Finish,
    GenerationRequest,
    Part,
    Piece,
    Sampling,
)
from agent.engines.isolated_text import PROGRAM, IsolatedTextSession
from agent.engines.worker.limits import Limits
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.errors import ContextOverflow, WorkerDied
from tests.support import tiny_language

CHAT = (ChatMessage("user", "Where is the pump?"),)
#: It cannot end early, and what has not been read of it does not fit into a socket's buffer.
LONG = GenerationRequest(
    text="a",
    max_tokens=490,
    sampling=Sampling(seed=5),
    top=20,
    constraint=Constraint("regex", "[ab]{490}"),
)


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedTextSession]:
    options = {"engine": "genai", "model": "model.onnx", "threads": 1}
    job = Job("tiny 1.0.0", PROGRAM, options, Limits(memory_mib=2048))
    session = IsolatedTextSession(Worker(job, tiny_language.files))
    yield session
    session.close()


def whole(parts: Iterable[Part]) -> tuple[str, list[Chosen], Part]:
    """An answer's text, its tokens and its end; where pieces end is a matter of time."""
    *pieces, finish = parts
    found = [piece for piece in pieces if isinstance(piece, Piece)]
    tokens = [token for piece in found for token in piece.tokens]
    return "".join(piece.text for piece in found), tokens, finish


def test_it_writes_what_the_same_session_writes_here(isolated: IsolatedTextSession) -> None:
    files = tiny_language.files()
    inline = load_session("genai", files["model.onnx"], EngineOptions(1, files))
    request = GenerationRequest(
        messages=CHAT, max_tokens=24, sampling=Sampling(seed=3, top_p=0.9), top=2
    )
    assert whole(isolated.generate(request)) == whole(inline.generate(request))  # type: ignore[attr-defined]
    assert isolated.window == tiny_language.WINDOW
    inline.close()


def test_a_run_and_an_answer_share_what_is_remembered(isolated: IsolatedTextSession) -> None:
    tokens = np.arange(1, 9, dtype=np.int32)
    tokens.flags.writeable = False
    first = isolated.run({"tokens": tokens})["logits"]
    text = bytes(range(33, 43)).decode()
    assert isinstance(list(isolated.generate(GenerationRequest(text=text)))[-1], Finish)
    np.testing.assert_allclose(isolated.run({"tokens": tokens})["logits"], first, atol=1e-4)


def test_a_refusal_arrives_as_it_is(isolated: IsolatedTextSession) -> None:
    request = GenerationRequest(text="x" * (tiny_language.WINDOW + 1))
    with pytest.raises(ContextOverflow, match="513 tokens"):
        list(isolated.generate(request))


def test_a_caller_who_goes_away_frees_the_model_for_the_next(
    isolated: IsolatedTextSession,
) -> None:
    for _ in range(8):  # more than there are lanes or conversations
        cancellation = Cancellation()
        parts = isolated.generate(LONG, cancellation)
        next(parts)
        cancellation.cancel()
        assert not any(isinstance(part, Finish) for part in parts)


def test_a_worker_that_is_killed_ends_the_stream_with_an_error(
    isolated: IsolatedTextSession,
) -> None:
    parts = isolated.generate(LONG)
    assert isinstance(next(parts), Piece)
    process = isolated.worker._process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(WorkerDied):
        list(parts)
    again: list[Part] = list(isolated.generate(GenerationRequest(text="a", max_tokens=3)))
    assert isinstance(again[-1], Finish)
