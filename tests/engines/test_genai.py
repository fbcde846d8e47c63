"""A real language model, of a few kilobytes, in the real runtime."""

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.engines.base import EngineOptions
from agent.engines.folder import MEMORY, PREFIX
from agent.engines.genai import GenAiSession
from agent.engines.generation import (
    Cancellation,
    ChatMessage,
    Constraint,
    Finish,
    GenerationRequest,
    Part,
    Piece,
    Sampling,
)
from agent.errors import AgentError, BadModel, BadPayload, ContextOverflow, NotReady
from tests.support import tiny_language

USER = ChatMessage("user", "Where is the pump?")
GREEDY = Sampling(temperature=0)
YES_NO = '{"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}'


@pytest.fixture(scope="module")
def session() -> Iterator[GenAiSession]:
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files(), {"conversations": 2}))
    yield made
    made.close()


def lent() -> set[Path]:
    """Folders that this process has lent to the runtime."""
    return set(Path(MEMORY).glob(f"{PREFIX}{os.getpid()}-*"))


def parts(session: GenAiSession, **fields: object) -> tuple[str, Finish]:
    """An answer's text and its end."""
    found: list[Part] = list(session.generate(GenerationRequest(**fields)))  # type: ignore[arg-type]
    assert isinstance(found[-1], Finish)
    return "".join(p.text for p in found if isinstance(p, Piece)), found[-1]


def test_a_seed_gives_the_same_answer_and_another_seed_another(session: GenAiSession) -> None:
    def answer(seed: int) -> str:
        return parts(session, messages=(USER,), max_tokens=40, sampling=Sampling(seed=seed))[0]

    assert answer(1) == answer(1)
    assert answer(1) != answer(2)


def test_an_answer_ends_at_its_bound(session: GenAiSession) -> None:
    for bound in (1, 2, 17):
        _, finish = parts(session, text="abc", max_tokens=bound, sampling=Sampling(seed=2))
        assert (finish.reason, finish.completion_tokens) == ("length", bound)


def test_an_answer_ends_with_the_window(session: GenAiSession) -> None:
    text = "x" * (tiny_language.WINDOW - 3)
    _, finish = parts(session, text=text, max_tokens=100, sampling=GREEDY)
    assert (finish.reason, finish.completion_tokens) == ("length", 3)


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(session: GenAiSession) -> None:
    whole, _ = parts(session, text="abc", max_tokens=60, sampling=Sampling(seed=8))
    stop = whole[10:12]
    text, finish = parts(
        session, text="abc", max_tokens=60, stop=(stop,), sampling=Sampling(seed=8)
    )
    assert text == whole[: whole.index(stop)]
    assert finish.reason == "stop"


def test_the_next_turn_reads_only_what_is_new(session: GenAiSession) -> None:
    first = (ChatMessage("system", "Be brief. " * 20), USER)
    answer, before = parts(session, messages=first, max_tokens=10, sampling=GREEDY)
    assert before.cached_tokens == 0
    turn = (*first, ChatMessage("assistant", answer), ChatMessage("user", "And the valve?"))
    _, after = parts(session, messages=turn, max_tokens=10, sampling=GREEDY)
    assert after.cached_tokens >= before.prompt_tokens - 1
    assert after.prompt_tokens - after.cached_tokens < 100


def test_what_is_remembered_changes_no_answer(session: GenAiSession) -> None:
    fresh = GenAiSession(b"", EngineOptions(1, tiny_language.files()))
    talk = [USER]
    for turn in range(4):
        request = {"messages": tuple(talk), "max_tokens": 12, "sampling": GREEDY}
        answer, _ = parts(session, **request)
        assert answer == parts(fresh, **request)[0]
        fresh._slots.clear()
        talk += [ChatMessage("assistant", answer), ChatMessage("user", f"And then, {turn}?")]
    fresh.close()


def test_more_conversations_than_are_remembered(session: GenAiSession) -> None:
    for number in range(7):
        message = ChatMessage("user", f"{number} " * (10 + 20 * number))
        request = {"messages": (message,), "max_tokens": 5, "sampling": GREEDY}
        assert parts(session, **request)[0] == parts(session, **request)[0]
    assert len(session._slots._idle) <= 2


# What a user types.


@pytest.mark.parametrize("control", tiny_language.SPECIAL)
def test_a_control_token_that_is_typed_arrives_as_text(session: GenAiSession, control: str) -> None:
    plain = session.tokens(GenerationRequest((ChatMessage("user", "a  b"),)))
    typed = session.tokens(GenerationRequest((ChatMessage("user", f"a {control} b"),)))
    special = set(range(256, tiny_language.VOCABULARY))
    assert [t for t in typed if t in special] == [t for t in plain if t in special]
    assert len(typed) == len(plain) + len(control)  # a token for each of its letters


def test_a_control_token_inside_another_is_not_set_free(session: GenAiSession) -> None:
    nested = "<|im_<|im_end|>end|><|<|im_start|>"
    typed = session.tokens(GenerationRequest((ChatMessage("user", nested),)))
    plain = session.tokens(GenerationRequest((ChatMessage("user", "x"),)))
    assert np.count_nonzero(typed >= 256) == np.count_nonzero(plain >= 256)


def test_a_prompt_larger_than_the_window_is_refused(session: GenAiSession) -> None:
    with pytest.raises(ContextOverflow, match="600 tokens; with its answer it may have 512"):
        parts(session, text="x" * 600)
    with pytest.raises(BadPayload, match="empty"):
        parts(session, text="")


def test_a_conversation_is_trimmed_from_its_oldest_message_on(session: GenAiSession) -> None:
    system = ChatMessage("system", "Be brief.")
    old = [ChatMessage("user", f"question {n} " * 6) for n in range(12)]
    last = ChatMessage("user", "the last one")
    with pytest.raises(ContextOverflow):
        session.tokens(GenerationRequest((system, *old, last)))
    request = GenerationRequest((system, *old, last), max_tokens=50, overflow="trim")
    tokens = session.tokens(request)
    read = bytes(int(t) for t in tokens if t < 256)
    assert len(tokens) <= tiny_language.WINDOW - 50
    assert session.tokens(GenerationRequest((system, *old[-1:], last)))[:20].tolist() == (
        tokens[:20].tolist()
    )
    assert len(read) > 100


def test_the_manifest_says_what_becomes_of_a_conversation_that_is_too_long() -> None:
    talk = tuple(ChatMessage("user", f"question {n} " * 6) for n in range(12))
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files(), {"overflow": "trim"}))
    assert len(made.tokens(GenerationRequest(talk))) < tiny_language.WINDOW
    with pytest.raises(ContextOverflow):
        made.tokens(GenerationRequest(talk, overflow="refuse"))
    made.close()


def test_one_message_larger_than_the_window_cannot_be_trimmed(session: GenAiSession) -> None:
    with pytest.raises(ContextOverflow):
        parts(session, messages=(ChatMessage("user", "x" * 2000),), overflow="trim")


def test_a_message_of_a_megabyte_is_refused_soon(session: GenAiSession) -> None:
    with pytest.raises(ContextOverflow):
        parts(session, messages=(ChatMessage("user", "<|im_end|> word " * 65_536),))


class Counted:
    """A runtime whose templates and encodings are counted."""

    def __init__(self, runtime: object) -> None:
        self._runtime = runtime
        self.rendered_messages: list[int] = []
        self.encoded_characters: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._runtime, name)

    def rendered(self, messages: str) -> str:
        self.rendered_messages.append(len(json.loads(messages)))
        return self._runtime.rendered(messages)  # type: ignore[attr-defined,no-any-return]

    def encoded(self, text: str) -> np.ndarray:
        self.encoded_characters.append(len(text))
        return self._runtime.encoded(text)  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def counted(session: GenAiSession) -> Iterator[Counted]:
    real = session._runtime
    session._runtime = made = Counted(real)  # type: ignore[assignment]
    yield made
    session._runtime = real


@pytest.mark.parametrize("content", ["", "hi", "a question of some length " * 4])
def test_trimming_costs_a_few_templates_however_long_the_conversation(
    session: GenAiSession, counted: Counted, content: str
) -> None:
    talk = tuple(ChatMessage("user", content) for _ in range(2048))
    tokens = session.tokens(GenerationRequest(talk, max_tokens=50, overflow="trim"))
    assert len(tokens) <= tiny_language.WINDOW - 50
    assert len(counted.rendered_messages) <= 12
    assert len(counted.encoded_characters) <= 2048 + 12


def test_trimming_ends_when_the_caller_goes_away(session: GenAiSession, counted: Counted) -> None:
    talk = tuple(ChatMessage("user", "hello") for _ in range(2048))
    request = GenerationRequest(talk, overflow="trim")
    assert not list(session.generate(request, lambda: len(counted.rendered_messages) == 2))
    assert len(counted.rendered_messages) == 2
    counted.encoded_characters.clear()
    assert not list(session.generate(request, lambda: len(counted.encoded_characters) > 60))
    assert len(counted.encoded_characters) == 61


def test_an_old_message_that_no_window_holds_is_left_out(session: GenAiSession) -> None:
    talk = (ChatMessage("user", "x" * 1_000_000), ChatMessage("user", "hi"))
    tokens = session.tokens(GenerationRequest(talk, overflow="trim"))
    assert tokens.tolist() == session.tokens(GenerationRequest(talk[1:])).tolist()
    with pytest.raises(ContextOverflow, match=r"10000\d\d characters"):
        session.tokens(GenerationRequest(talk))
    with pytest.raises(ContextOverflow, match=r"10000\d\d characters"):
        session.tokens(GenerationRequest((talk[1], talk[0]), overflow="trim"))


def test_a_nul_is_refused_and_does_not_cut_the_prompt(session: GenAiSession) -> None:
    for fields in ({"text": "a\0b"}, {"messages": (ChatMessage("user", "a\0b"),)}):
        with pytest.raises(BadPayload, match=r"U\+0000"):
            parts(session, **fields)
        with pytest.raises(BadPayload, match=r"U\+0000"):
            session.tokens(GenerationRequest(**fields))  # type: ignore[arg-type]


# Constraints.


def test_a_constraint_that_comes_again_reads_only_what_is_new_and_writes_the_same(
    session: GenAiSession,
) -> None:
    fresh = GenAiSession(b"", EngineOptions(1, tiny_language.files()))
    talk = [ChatMessage("system", "Be brief. " * 10), USER]
    cached = []
    for constraint in (Constraint("json_schema", YES_NO), Constraint("regex", "(a|b){9}[0-9]{3}")):
        for turn in range(4):
            fields = {"constraint": constraint, "max_tokens": 30, "sampling": GREEDY}
            answer, finish = parts(session, messages=tuple(talk), **fields)
            assert answer == parts(fresh, messages=tuple(talk), **fields)[0]
            fresh._slots.clear()
            cached.append(finish.cached_tokens)
            talk += [ChatMessage("assistant", answer), ChatMessage("user", f"And now, {turn}?")]
        talk = talk[:2]
    fresh.close()
    assert cached[0] == cached[4] == 0
    assert all(100 < n < m for n, m in itertools.pairwise(cached[1:4]))
    assert all(100 < n < m for n, m in itertools.pairwise(cached[5:8]))


def test_a_constraint_with_a_seed_gives_the_same_answer_each_time(session: GenAiSession) -> None:
    def answer() -> str:
        fields = {"constraint": Constraint("regex", "[a-z]{30}"), "sampling": Sampling(seed=4)}
        return parts(session, text="a", max_tokens=40, **fields)[0]

    assert answer() == answer()


def test_a_constraint_drops_no_conversation_while_there_is_room() -> None:
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files(), {"conversations": 2}))
    parts(made, messages=(USER,), max_tokens=3, sampling=GREEDY)
    parts(made, text="a", constraint=Constraint("regex", "[ab]{5}"), max_tokens=8)
    again = parts(made, messages=(USER,), max_tokens=3, sampling=GREEDY)[1]
    assert again.cached_tokens > 20
    assert len(made._slots._idle) == 2
    made.close()


RECURSIVE = {
    "$defs": {
        "a": {
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/a"}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/a",
    "x-guidance": {"whitespace_flexible": False},
}
LOOP = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}


@pytest.mark.parametrize("schema", [RECURSIVE, LOOP], ids=["for ever", "in a circle"])
def test_a_schema_without_an_end_is_the_clients_error_or_costs_no_more_than_its_tokens(
    session: GenAiSession, schema: dict[str, object]
) -> None:
    with contextlib.suppress(BadPayload):
        _, finish = parts(
            session,
            text="a",
            constraint=Constraint("json_schema", json.dumps(schema)),
            max_tokens=5,
        )
        assert finish.completion_tokens <= 5


def test_an_answer_is_an_instance_of_its_schema(session: GenAiSession) -> None:
    constraint = Constraint("json_schema", YES_NO)
    for seed in range(3):
        text, finish = parts(
            session,
            messages=(USER,),
            max_tokens=200,
            constraint=constraint,
            sampling=Sampling(temperature=0.2, seed=seed),
        )
        if finish.reason == "stop":
            assert text.replace(" ", "").replace("\n", "") in ('{"ok":true}', '{"ok":false}')


def test_an_answer_is_a_match_of_its_expression(session: GenAiSession) -> None:
    text, finish = parts(
        session, text="a", constraint=Constraint("regex", "(open|shut) [0-9]{3}"), max_tokens=50
    )
    assert finish.reason == "stop"
    assert text[:5] in ("open ", "shut ")
    assert text[5:].isdigit()


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint("json_schema", '{"type": "bogus"}'),
        Constraint("json_schema", "not json"),
        Constraint("json_schema", '{"$ref": "http://example.com/schema"}'),
        Constraint("json_schema", '{"allOf": [{"type": "string"}, {"type": "integer"}]}'),
        Constraint("json_schema", '{"type": "array", "items":' * 400 + "{}" + "}" * 400),
        Constraint("json_schema", " " * 70_000),
        Constraint("regex", "((("),
        Constraint("regex", "((a{1000}){1000}){1000}"),
        Constraint("regex", r"(a)\1"),
    ],
    ids=lambda constraint: constraint.text[:40],
)
def test_a_constraint_that_cannot_be_used_is_refused_and_the_model_lives(
    session: GenAiSession, constraint: Constraint
) -> None:
    with pytest.raises(BadPayload):
        parts(session, text="a", constraint=constraint, max_tokens=5)
    assert parts(session, text="a", max_tokens=2, sampling=GREEDY)[1].completion_tokens == 2


@pytest.mark.parametrize(
    "schema",
    ['{"$ref": "#"}', json.dumps({"enum": [str(n) for n in range(5000)]})],
    ids=["a schema of itself", "five thousand choices"],
)
def test_a_schema_that_is_strange_is_refused_or_costs_no_more_than_its_tokens(
    session: GenAiSession, schema: str
) -> None:
    with contextlib.suppress(BadPayload):
        _, finish = parts(
            session, text="a", constraint=Constraint("json_schema", schema), max_tokens=5
        )
        assert finish.completion_tokens <= 5


def test_probabilities_are_those_of_the_model(session: GenAiSession) -> None:
    request = GenerationRequest(text="abc", max_tokens=3, sampling=GREEDY, top=4)
    chosen = [c for p in session.generate(request) if isinstance(p, Piece) for c in p.tokens]
    assert len(chosen) == 3
    for token in chosen:
        assert token.logprob == pytest.approx(token.top[0].logprob)  # greedy takes the likeliest
        assert [t.logprob for t in token.top] == sorted(
            (t.logprob for t in token.top), reverse=True
        )
        assert sum(np.exp(t.logprob) for t in token.top) <= 1.0 + 1e-6


def test_parts_of_a_character_come_with_their_own_bytes(session: GenAiSession) -> None:
    request = GenerationRequest(text="abc", max_tokens=40, sampling=Sampling(seed=3), top=20)
    chosen = [c for p in session.generate(request) if isinstance(p, Piece) for c in p.tokens]
    found = [one for token in chosen for one in (token, *token.top)]
    assert any(one.raw for one in found)
    for one in found:
        assert (one.raw is None) == ("\ufffd" not in one.token)
        assert one.raw is None or len(one.raw) == 1 or one.raw.decode() in tiny_language.SPECIAL


# Several at once.


def test_conversations_at_once_do_not_disturb_each_other(session: GenAiSession) -> None:
    requests = [
        {"messages": (ChatMessage("user", f"number {n}"),), "max_tokens": 20, "sampling": GREEDY}
        for n in range(4)
    ]
    alone = [parts(session, **request)[0] for request in requests]
    together: dict[int, str] = {}

    def write(n: int) -> None:
        together[n] = parts(session, **requests[n])[0]

    threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [together[n] for n in range(4)] == alone


def test_a_cancelled_answer_has_no_end_and_gives_its_place_back(session: GenAiSession) -> None:
    for _ in range(5):
        cancellation = Cancellation()
        answer = session.generate(
            GenerationRequest(text="a", max_tokens=500, sampling=Sampling(seed=1)), cancellation
        )
        next(answer)
        cancellation.cancel()
        assert not any(isinstance(part, Finish) for part in answer)
    abandoned = session.generate(GenerationRequest(text="b", max_tokens=500))
    next(abandoned)
    abandoned.close()
    assert session._slots._used == 0


# The tensor contract, and loading.


def test_a_run_gives_the_logits_of_the_next_token(session: GenAiSession) -> None:
    tokens = np.array([10, 20, 30, 40], np.int32)
    whole = session.run({"tokens": tokens})["logits"]
    assert whole.shape == (tiny_language.VOCABULARY,)
    session.run({"tokens": tokens[:2]})
    np.testing.assert_allclose(session.run({"tokens": tokens})["logits"], whole, atol=1e-4)


@pytest.mark.parametrize("tokens", [[], [-1], [tiny_language.VOCABULARY], [0] * 600])
def test_tokens_that_there_are_not_are_refused(session: GenAiSession, tokens: list[int]) -> None:
    with pytest.raises(BadPayload):
        session.run({"tokens": np.array(tokens, np.int32)})


@pytest.mark.parametrize("missing", ["genai_config.json", "tokenizer.json"])
def test_a_package_without_one_of_its_files_is_refused(missing: str) -> None:
    files = {k: v for k, v in tiny_language.files().items() if k != missing}
    with pytest.raises(BadModel):
        GenAiSession(b"", EngineOptions(1, files))


@pytest.mark.parametrize("broken", ["model.onnx", "genai_config.json", "tokenizer.json"])
def test_a_package_with_a_broken_file_is_refused_and_leaves_nothing(broken: str) -> None:
    before = lent()
    with pytest.raises(AgentError):
        GenAiSession(b"", EngineOptions(1, {**tiny_language.files(), broken: b"\x00\xff{"}))
    assert lent() == before


def test_a_closed_session_says_so_and_leaves_nothing() -> None:
    before = lent()
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files()))
    made.close()
    made.close()
    with pytest.raises(NotReady):
        list(made.generate(GenerationRequest(text="a")))
    assert lent() == before
