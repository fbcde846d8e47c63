"""Contents stay contents, whatever they hold."""

import re

from hypothesis import given
from hypothesis import strategies as st

from agent.engines.generation import ChatMessage
from agent.engines.prompts import Controls, divided, marked, trimmed, unmarked

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
    messages = tuple(
        ChatMessage(role, str(n))  # type: ignore[arg-type]
        for n, role in enumerate(["system", "user", "assistant", "user"])
    )
    left = messages
    order = []
    while (shorter := trimmed(left)) is not None:
        order += [m.content for m in left if m not in shorter]
        left = shorter
    assert order == ["1", "2"]
    assert [m.content for m in left] == ["0", "3"]


def test_a_tokenizers_control_tokens_are_the_special_ones_and_what_looks_like_a_tag() -> None:
    data = (
        b'{"added_tokens": [{"content": "<|end|>", "special": true}, {"content": "<tool>", '
        b'"special": false}, {"content": "    ", "special": false}], "model": {"vocab": {"a": 1}}}'
    )
    controls = Controls.of(data)
    assert controls.cuts("<|end|> <tool>    x") == [1, 9]
