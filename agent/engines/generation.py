"""The contract of a model that writes text.

Plain values, so that a request and its answer can travel to a worker process as they are. A session
that writes text keeps the tensor contract too: one run over `tokens` gives the `logits` of the next.
"""

import threading
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.engines.base import Session

MAX_MESSAGES = 2048  # of a conversation
MAX_STOPS = 16  # texts that end an answer
MAX_TOP = 20  # likeliest tokens beside the one that was taken

Role = Literal["system", "user", "assistant", "tool"]


class ChatMessage(Struct, frozen=True):
    """One message of a conversation. Its text is text: control tokens in it control nothing."""

    role: Role
    content: str


class Sampling(Struct, frozen=True):
    """How the next token is chosen.

    Attributes:
        temperature: divides the logits; below 1e-6 the likeliest token is taken always.
        top_p: only the likeliest tokens that together have this probability.
        top_k: only so many of the likeliest tokens; 0 for all.
        repetition_penalty: divides what speaks for a token that occurred before; 1 for none.
        frequency_penalty: taken off a logit for each time that the answer has the token already.
        presence_penalty: taken off once, when it has it at all.
        seed: of the random numbers; None for a new one each time.
    """

    temperature: Annotated[float, Meta(ge=0, le=100)] = 1.0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] | None = None


class Constraint(Struct, frozen=True):
    """What an answer must be: an instance of a JSON schema, or a match of a regular expression."""

    kind: Literal["json_schema", "regex"]
    text: str


class GenerationRequest(Struct, frozen=True):
    """What is to be written.

    Attributes:
        messages: a conversation to be answered; when there are none, `text` is to be continued.
        text: a prompt as it is, without the model's chat template.
        max_tokens: of the answer; None for as many as the window has room for.
        stop: texts that end the answer and are no part of it.
        sampling: how each token is chosen.
        constraint: what the answer must be; None for anything.
        top: likeliest tokens to report with each token; None for no probabilities at all.
        overflow: what to do with a conversation that is larger than the window: refuse it, or
            leave out its oldest messages, never those of the role system and never the last one;
            None for what the model's manifest says.
    """

    messages: tuple[ChatMessage, ...] = ()
    text: str = ""
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    sampling: Sampling = Sampling()
    constraint: Constraint | None = None
    top: int | None = None
    overflow: Literal["refuse", "trim"] | None = None


class Likely(Struct, frozen=True):
    """A token that could come next.

    Attributes:
        token: its text; a part of a character shows as a replacement character.
        logprob: natural logarithm of its probability, before temperature and penalties.
        raw: its bytes, where the text does not say them, as of a part of a character; None elsewhere.
    """

    token: str
    logprob: float
    raw: bytes | None = None


class Chosen(Struct, frozen=True):
    """A token that was chosen, and the likeliest ones in its place, the likeliest first.

    The other fields are as `Likely` has them.
    """

    token: str
    logprob: float
    top: tuple[Likely, ...] = ()
    raw: bytes | None = None


class Piece(Struct, frozen=True, tag="piece"):
    """A part of the answer.

    Attributes:
        text: whole characters; may be empty while a character is under way.
        tokens: probabilities, when they were asked for.
    """

    text: str
    tokens: tuple[Chosen, ...] = ()


class Finish(Struct, frozen=True, tag="finish"):
    """The end of an answer.

    Attributes:
        reason: the model or a stop text ended it, or there was no more room.
        prompt_tokens: tokens of the prompt.
        cached_tokens: of these, so many were known from the turn before and cost nothing.
        completion_tokens: tokens of the answer.
    """

    reason: Literal["stop", "length"]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


Part: TypeAlias = Piece | Finish


class Cancellation:
    """Says that an answer is no longer wanted; from any thread, once and for ever."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False
        self._acts: list[Callable[[], None]] = []

    def __call__(self) -> bool:
        return self._done

    def cancel(self) -> None:
        """It is no longer wanted. Idempotent."""
        with self._lock:
            self._done, acts, self._acts = True, self._acts, []
        for act in acts:
            act()

    def then(self, act: Callable[[], None]) -> None:
        """What to do when it is cancelled; at once if it is already."""
        with self._lock:
            if not self._done:
                self._acts.append(act)
                return
        act()


def not_cancelled() -> bool:
    """For a caller who never goes away."""
    return False


class TextSession(Session):
    """A loaded model that writes text. Several threads may generate at once, each in its turn.

    Attributes:
        window: tokens of a prompt and its answer together.
    """

    parallel = True
    window: int

    @abstractmethod
    def generate(
        self, request: GenerationRequest, cancelled: Callable[[], bool] = not_cancelled
    ) -> Generator[Part, None, None]:
        """Write an answer: pieces, and one Finish at the end.

        Args:
            request: what is to be written.
            cancelled: asked before each token; the answer ends, without a Finish, once it is true.

        Raises:
            ContextOverflow: the prompt is larger than the window.
            BadPayload: the constraint cannot be understood.
            TooMany: too many wait already.
            EngineFailed: the runtime failed.
            NotReady: the session is closed.
        """
