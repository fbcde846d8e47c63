"""ONNX Runtime GenAI: small language models, on the processor. The only file that imports it.

The runtime's part is the model: keys, values and logits. Choosing tokens, remembering conversations
and sharing the processor among them are done here, so that each request has settings of its own and
a conversation can go on where it was. Only an answer under a constraint is chosen by the runtime,
which knows the grammar; a generator that has one goes on for requests with the same.
"""

import os
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import msgspec
import numpy as np

from agent.engines.base import EngineOptions, first_line, translated
from agent.engines.constraints import check, rules
from agent.engines.conversations import ONCE, Slot, Slots, Tokens
from agent.engines.folder import LentFolder, release_unused
from agent.engines.generation import (
    ChatMessage,
    Finish,
    GenerationRequest,
    Part,
    TextSession,
    not_cancelled,
)
from agent.engines.prompts import (
    Controls,
    fewest_left_out,
    marked,
    refuse_nul,
    unmarked,
    without_oldest,
)
from agent.engines.reading import Free, Guided, Reader
from agent.engines.sampling import Sampler, greedy
from agent.engines.turns import Turns
from agent.engines.vocabulary import untold_bytes
from agent.engines.writing import Chooser, Writing
from agent.errors import BadModel, BadPayload, ContextOverflow, NotReady
from agent.types import Array, TensorSpec

CONFIG, TOKENIZER = "genai_config.json", "tokenizer.json"

CONVERSATIONS = 4  # that the model remembers, when its manifest does not say
WINDOW = 4096  # tokens, when neither the manifest nor the model has less
ANSWER = 1024  # tokens of an answer, when the request does not say
RESERVE = 0.25  # of the window, kept for the answer when a conversation is trimmed
LONGEST = 64  # characters of a token, on average, at most


class GenAiSession(TextSession):
    """A language model in ONNX Runtime GenAI.

    Manifest parameters: ``context``, tokens of the window that is offered; ``conversations``, how many
    are remembered; ``overflow``, "refuse" or "trim", for conversations larger than the window.
    """

    def __init__(self, model: bytes, options: EngineOptions) -> None:
        """Raises BadModel: a file is missing, or the runtime cannot load it."""
        del model  # it is among the files
        files = options.files
        config = _decoded(files, CONFIG)
        self._controls = Controls.of(_file(files, TOKENIZER))
        vocabulary = int(config["model"]["vocab_size"])
        self._runtime = _Runtime(files, options.usable_threads, vocabulary)
        self.window = _window(config, options.parameters)
        super().__init__(
            [TensorSpec("tokens", "INT32", (-1,))], [TensorSpec("logits", "FP32", (vocabulary,))]
        )
        self._vocabulary = vocabulary
        self._overflow = options.parameters.get("overflow", "refuse")
        self._turns = Turns()
        most = int(options.parameters.get("conversations", CONVERSATIONS))
        self._slots = Slots(self._runtime.generator, most, self.window)
        self._text = threading.Lock()  # of the tokenizer

    def generate(
        self, request: GenerationRequest, cancelled: Callable[[], bool] = not_cancelled
    ) -> Generator[Part, None, None]:
        if self._closed:
            raise NotReady("the model is being unloaded")
        with translated():
            refuse_nul(request)
            if request.constraint is not None:
                check(request.constraint, request)
            prompt = self._prompt(request, cancelled)
            if prompt is None:
                return
            room = self.window - len(prompt)
            limit = min(room, ANSWER if request.max_tokens is None else request.max_tokens)
            yield from self._answer(request, prompt, limit, cancelled)

    def _answer(
        self, request: GenerationRequest, prompt: Tokens, limit: int, cancelled: Callable[[], bool]
    ) -> Iterator[Part]:
        slot = self._taken(request, prompt, len(prompt) + limit, cancelled)
        if slot is None:
            return
        returned: Slot | None = None  # one in an unknown state is of no more use
        try:
            reader = Reader(slot, self._turns)
            cached = reader.rewind(prompt)
            slot.prompt = len(prompt)
            if not reader.read(prompt, cancelled):
                returned = slot
                return
            chooser = self._chooser(request, reader, prompt)
            writing = Writing(request, chooser, self._runtime, self._turns)
            yield from writing.pieces(limit, cancelled)
            returned = slot
            yield from _finish(writing, len(prompt), cached)
        except GeneratorExit:
            returned = slot
            raise
        finally:
            self._slots.give(returned)

    def _taken(
        self, request: GenerationRequest, prompt: Tokens, needed: int, cancelled: Callable[[], bool]
    ) -> Slot | None:
        if request.constraint is None:
            return self._slots.take(prompt, needed, cancelled)

        def make(capacity: int) -> Any:
            with self._turns.turn():
                return self._runtime.guided(request, capacity)

        return self._slots.take(prompt, needed, cancelled, rules=rules(request) or ONCE, make=make)

    @staticmethod
    def _chooser(request: GenerationRequest, reader: Reader, prompt: Tokens) -> Chooser:
        if request.constraint is not None:
            return Guided(reader)
        return Free(reader, Sampler(request.sampling, prompt.tolist()))

    # Prompts

    def tokens(self, request: GenerationRequest) -> Tokens:
        """The token ids of a request's prompt, int32 [n]. Raises ContextOverflow, BadPayload."""
        refuse_nul(request)
        found = self._prompt(request, not_cancelled)
        assert found is not None
        return found

    def _prompt(self, request: GenerationRequest, cancelled: Callable[[], bool]) -> Tokens | None:
        """The same; None when the caller went away meanwhile."""
        if not request.messages:
            return self._fitting(self._encoded([request.text]))
        if (request.overflow or self._overflow) != "trim":
            return self._fitting(self._chat(request.messages))
        wanted = request.max_tokens or ANSWER
        most = self.window - min(wanted, int(RESERVE * self.window))
        tokens = self._trimmed(request.messages, most, cancelled)
        return None if tokens is None else self._fitting(tokens)

    def _trimmed(
        self, messages: Sequence[ChatMessage], most: int, cancelled: Callable[[], bool]
    ) -> Tokens | None:
        """A conversation with as few messages left out as must be, to have at most so many tokens."""
        found: dict[int, Tokens] = {}

        def size(text: str) -> int:
            # Enough to be left out, for what is too long to be looked at or of no more interest.
            return most + 1 if cancelled() or self._is_long([text]) else len(self._encoded([text]))

        def fits(left_out: int) -> bool:
            if cancelled():
                return True
            written = self._rendered(without_oldest(messages, left_out))
            if self._is_long(written):
                return False
            found[left_out] = self._encoded(written)
            return len(found[left_out]) <= most

        count = fewest_left_out(messages, most, size, fits)
        if count not in found and not cancelled():
            return self._chat(without_oldest(messages, count))
        return found.get(count)

    def _fitting(self, tokens: Tokens) -> Tokens:
        if len(tokens) >= self.window:
            raise ContextOverflow(
                f"the prompt has {len(tokens)} tokens; with its answer it may have {self.window}",
                hint="Shorten it, or leave old messages out",
            )
        if not len(tokens):
            raise BadPayload("the prompt is empty")
        return tokens

    def _chat(self, messages: Sequence[ChatMessage]) -> Tokens:
        return self._encoded(self._rendered(messages))

    def _rendered(self, messages: Sequence[ChatMessage]) -> Sequence[str]:
        """A conversation as the template writes it, in parts."""
        marks = marked(messages)
        with self._text:
            rendered = self._runtime.rendered(marks.json)
        return unmarked(rendered, marks.contents, self._controls)

    def _encoded(self, parts: Sequence[str]) -> Tokens:
        if self._is_long(parts):
            length = sum(map(len, parts))
            raise ContextOverflow(f"{length} characters are more than the window can hold")
        with self._text:
            pieces = [self._runtime.encoded(part) for part in parts if part]
        begin = self._runtime.begin
        # A tokenizer that puts a token before every text puts it before every part.
        rest = [p[1:] if len(p) and p[0] == begin else p for p in pieces[1:]]
        tokens = np.concatenate([*pieces[:1], *rest]) if pieces else np.empty(0, np.int32)
        twice = len(tokens) > 1 and tokens[0] == tokens[1] == begin
        return tokens[1:] if twice else tokens

    def _is_long(self, parts: Sequence[str]) -> bool:
        """Whether it has more characters than the window has room for, however they are tokenized."""
        return sum(map(len, parts)) > LONGEST * self.window

    # Tensors

    def _run(self, arrays: Sequence[Array]) -> Sequence[Array]:
        tokens = arrays[0].copy()  # it is remembered, and the caller's may change
        if not 0 < len(tokens) <= self.window or not self._known(tokens):
            raise BadPayload(
                f"expected 1 to {self.window} token ids from 0 to {self._vocabulary - 1}",
                where="tokens",
            )
        with translated():
            slot = self._slots.take(tokens, len(tokens), not_cancelled)
            assert slot is not None
            returned: Slot | None = None
            try:
                reader = Reader(slot, self._turns)
                reader.rewind(tokens)
                slot.prompt = len(tokens)
                reader.read(tokens, not_cancelled)
                logits = reader.logits()
                returned = slot
                return [logits]
            finally:
                self._slots.give(returned)

    def _known(self, tokens: Tokens) -> bool:
        return bool(((tokens >= 0) & (tokens < self._vocabulary)).all())

    def _close(self) -> None:
        self._slots.clear()
        self._runtime.close()


class _Runtime:
    """The library's objects of one model.

    Attributes:
        begin: the token that the tokenizer puts before a text, -1 for none.
        ends: tokens that end an answer.
    """

    def __init__(self, files: Mapping[str, bytes], threads: int, vocabulary: int) -> None:
        og = self._og = _library()
        self._vocabulary = vocabulary
        self._untold = untold_bytes(files[TOKENIZER])
        loaded = [name for name in files if name.startswith("model.onnx")]
        others = [name for name in files if name not in loaded and name != "model.toml"]
        self._folder = LentFolder(files, [*loaded, *others])
        try:
            config = og.Config(str(self._folder.path))
            config.overlay(_overlay(threads))
            self._model = og.Model(config)
            self._tokenizer = og.Tokenizer(self._model)
        except Exception as error:
            self._folder.close()
            raise BadModel(
                f"onnxruntime-genai cannot load the model: {first_line(error)}"
            ) from error
        self._folder.withdraw(loaded)
        release_unused()
        self.begin = int(self._tokenizer.bos_token_id)
        self.ends = frozenset(map(int, self._tokenizer.eos_token_ids))

    def generator(self, capacity: int) -> Any:
        """A generator with room for so many tokens."""
        return self._og.Generator(self._model, self._parameters(max_length=capacity))

    def guided(self, request: GenerationRequest, capacity: int) -> Any:
        """A generator that writes what a constraint allows. Raises BadPayload."""
        constraint, sampling = request.constraint, request.sampling
        assert constraint is not None
        options: dict[str, Any] = {"max_length": capacity}
        if not greedy(sampling):
            options |= {
                "do_sample": True,
                "temperature": sampling.temperature,
                "top_p": sampling.top_p,
                # More tokens than there are end the process.
                "top_k": sampling.top_k if sampling.top_k < self._vocabulary else 0,
            }
            options |= {"random_seed": sampling.seed % 2**31} if sampling.seed is not None else {}
        parameters = self._parameters(repetition_penalty=sampling.repetition_penalty, **options)
        parameters.set_guidance(constraint.kind, constraint.text)
        try:
            return self._og.Generator(self._model, parameters)
        except Exception as error:
            message = f"the constraint cannot be used: {first_line(error)}"
            raise BadPayload(message, where=constraint.kind) from error

    def rendered(self, messages: str) -> str:
        """Messages, as JSON, in the model's chat template."""
        try:
            text: str = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True)
        except Exception as error:
            message = f"the model's chat template cannot take these messages: {first_line(error)}"
            raise BadPayload(message, where="messages") from error
        return text

    def encoded(self, text: str) -> Tokens:
        """Token ids, int32 [n]."""
        return np.asarray(self._tokenizer.encode(text), np.int32)

    def text(self, token: int) -> str:
        """The text of one token."""
        found: str = self._tokenizer.decode(np.array([token], np.int32))
        return found

    def raw(self, token: int) -> bytes | None:
        """The bytes of a token whose text does not say them; None for others."""
        return self._untold.get(token)

    def stream(self) -> Any:
        """A decoder of an answer, token by token, that gives whole characters."""
        return self._tokenizer.create_stream()

    def close(self) -> None:
        """Let go of everything."""
        del self._tokenizer, self._model
        self._folder.close()

    def _parameters(self, **options: Any) -> Any:
        parameters = self._og.GeneratorParams(self._model)
        parameters.set_search_options(**{"do_sample": False, "batch_size": 1, **options})
        return parameters


@cache
def _library() -> Any:
    # Releases from 0.15 on carry a telemetry client that starts at import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime_genai

    return onnxruntime_genai


def _overlay(threads: int) -> str:
    """Session options of ours, over the package's.

    A token is some two hundred products of microseconds: threads that wait for the next by spinning
    give a quarter more tokens than threads that sleep, and a third less beside a busy process.
    """
    session = {"intra_op_num_threads": threads, "session.intra_op.allow_spinning": "1"}
    return msgspec.json.encode({"model": {"decoder": {"session_options": session}}}).decode()


def _window(config: Mapping[str, Any], parameters: Mapping[str, Any]) -> int:
    window = int(parameters.get("context", WINDOW))
    return min(window, int(config["model"]["context_length"]))


def _file(files: Mapping[str, bytes], name: str) -> bytes:
    try:
        return files[name]
    except KeyError:
        hint = f'Package it with the role "data", beside {CONFIG} and {TOKENIZER}'
        raise BadModel("the package lacks the file", where=name, hint=hint) from None


def _decoded(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = msgspec.json.decode(_file(files, name), type=dict[str, Any])
        int(found["model"]["vocab_size"]), int(found["model"]["context_length"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, ValueError) as error:
        raise BadModel(f"it is not a model's configuration: {error}", where=name) from error
    return found


def _finish(writing: Writing, prompt: int, cached: int) -> Iterator[Finish]:
    """What ends an answer; nothing where the caller went away."""
    if writing.reason is not None:
        yield Finish(writing.reason, prompt, cached, writing.count)
