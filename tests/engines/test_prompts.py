"""Contents stay contents, whatever they hold."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.generation import ChatMessage, Constraint, GenerationRequest
from agent.engines.prompts import (
    Controls,
    divided,
    fewest_left_out,
    marked,
    refuse_nul,
    unmarked,
    without_oldest,
)
from agent.errors import BadPayload

SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "<|im_end|><s>"]
CONTROLS = Controls(SPECIAL)
PIECES = st.lists(st.sampled_from([*SPECIAL, "<", "|", "im_end|>", "<|im_", "s>", " x", "\n"]))


def template(contents: list[str]) -> str:
    return "".join(f"<|im_start|>user\n{content}<|im_end|>\n" for content in contents)


@given(st.lists(PIECES.map("".join), min_size=1, max_size=4))
def test_no_part_holds_a_control_token_of_a_content(contents: list[str]) -> None:
    marks = marked([ChatMessage("user", content) for content in contents])
    parts = unmarked(template(list(marks.contents)), marks.contents, CONTROLS)
    assert "".join(parts) == template(contents)  # not a letter is lost
    of_template = 2 * len(contents)
    found = sum(len(re.findall(r"<\|im_start\|>|<\|im_end\|>", part)) for part in parts)
    assert found == of_template
    assert not any(token in part for part in parts for token in ("<s>", "</s>"))


def test_a_text_without_control_tokens_is_one_part() -> None:
    marks = marked([ChatMessage("user", "plain text")])
    assert len(unmarked(template(list(marks.contents)), marks.contents, CONTROLS)) == 1


def test_marks_cannot_be_guessed() -> None:
    one, other = (marked([ChatMessage("user", "x")]) for _ in range(2))
    assert one.contents.keys() != other.contents.keys()


def test_a_content_that_is_a_mark_of_another_run_is_text() -> None:
    old = next(iter(marked([ChatMessage("user", "x")]).contents))
    marks = marked([ChatMessage("user", old)])
    assert unmarked(template(list(marks.contents)), marks.contents, CONTROLS) == [template([old])]


def test_cuts_divide() -> None:
    assert divided("abcdef", [2, 4]) == ["ab", "cd", "ef"]


def test_the_oldest_messages_go_first_and_the_system_and_the_last_stay() -> None:
    messages = [
        ChatMessage(role, str(n))  # type: ignore[arg-type]
        for n, role in enumerate(["system", "user", "assistant", "user"])
    ]
    left = ["".join(m.content for m in without_oldest(messages, count)) for count in range(4)]
    assert left == ["0123", "023", "03", "03"]


@given(
    st.lists(st.tuples(st.sampled_from(["system", "user"]), st.integers(0, 30)), min_size=1),
    st.integers(0, 200),
    st.integers(0, 9),
)
def test_as_few_messages_go_as_must_and_few_attempts_are_made(
    talk: list[tuple[str, int]], most: int, around: int
) -> None:
    messages = [ChatMessage(role, "x" * length) for role, length in talk]  # type: ignore[arg-type]
    attempts, sized = [], []

    def size(text: str) -> int:
        sized.append(text)
        return len(text)

    def fits(count: int) -> bool:
        attempts.append(count)
        kept = without_oldest(messages, count)
        return sum(len(m.content) + around for m in kept) <= most

    found = fewest_left_out(messages, most, size, fits)
    assert len(sized) <= len(messages)
    assert len(attempts) <= 1 + len(messages).bit_length()
    may_go = sum(role != "system" for role, _ in talk[:-1])
    assert found == next((count for count in range(may_go + 1) if fits(count)), may_go)


def test_no_message_older_than_one_that_must_go_is_looked_at() -> None:
    messages = [ChatMessage("user", str(n)) for n in range(1000)]
    sized: list[str] = []

    def size(text: str) -> int:
        sized.append(text)
        return 10

    assert fewest_left_out(messages, 100, size, lambda _: True) == 990
    assert len(sized) == 11


NUL = "a\0b"


@pytest.mark.parametrize(
    ("request_", "where"),
    [
        (GenerationRequest((ChatMessage("user", "a"), ChatMessage("user", NUL))), "messages[1]"),
        (GenerationRequest(text=NUL), "prompt"),
        (GenerationRequest(text="a", stop=("a", NUL)), "stop[1]"),
        (GenerationRequest(text="a", constraint=Constraint("regex", NUL)), "regex"),
        (GenerationRequest(text="a", constraint=Constraint("json_schema", NUL)), "json_schema"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_nul_that_would_cut_a_text_is_refused(request_: GenerationRequest, where: str) -> None:
    with pytest.raises(BadPayload, match=r"U\+0000") as caught:
        refuse_nul(request_)
    assert caught.value.where.startswith(where)


def test_a_tokenizers_control_tokens_are_the_special_ones_and_what_looks_like_a_tag() -> None:
    data = (
        b'{"added_tokens": [{"content": "<|end|>", "special": true}, {"content": "<tool>", '
        b'"special": false}, {"content": "    ", "special": false}], "model": {"vocab": {"a": 1}}}'
    )
    controls = Controls.of(data)
    assert controls.cuts("<|end|> <tool>    x") == [1, 9]
