"""A conversation on the command line, as far as it needs no daemon."""

from collections.abc import Iterator
from typing import Any, cast

import pytest

from agent.api.client import Client
from agent.cli.chat import Conversation
from agent.cli.texts import visible
from agent.engines.generation import MAX_MESSAGES


class Answering:
    """A daemon that answers each message with its number; every other answer breaks off."""

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []

    def written(self, _: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        self.asked.append(body["messages"])
        yield {"choices": [{"delta": {"content": str(len(self.asked))}}]}
        if len(self.asked) % 2:
            details = {"cached_tokens": 0}
            usage = {"prompt_tokens": 1, "completion_tokens": 2, "prompt_tokens_details": details}
            yield {"choices": [], "usage": usage}


def test_a_long_conversation_stays_within_what_the_daemon_takes() -> None:
    conversation = Conversation("m", {}, "Be brief.")
    daemon = Answering()
    for number in range(MAX_MESSAGES // 2 + 10):
        assert list(conversation.ask(cast("Client", daemon), f"question {number}"))
    assert max(map(len, daemon.asked)) <= MAX_MESSAGES
    first, second, *_, last = daemon.asked[-1]
    assert first == {"role": "system", "content": "Be brief."}
    assert second["role"] == "user"  # whole turns are left out, the oldest first
    assert last["content"] == f"question {MAX_MESSAGES // 2 + 9}"


def test_figures_are_those_of_the_last_answer_or_none() -> None:
    conversation = Conversation("m", {})
    client = cast("Client", Answering())
    list(conversation.ask(client, "whole"))
    assert conversation.stats.startswith("2 tokens")
    list(conversation.ask(client, "cut short"))
    assert conversation.stats == "the last answer ended before its figures came"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[2J\x0e\x07", "[2J"),
        ("\x7f\x80\x9b31m\x9f", "31m"),
        ("\r\nÄ😀\xa0", "\nÄ😀\xa0"),
    ],
)
def test_a_terminal_is_shown_text_and_no_commands(text: str, shown: str) -> None:
    assert visible(text) == shown
