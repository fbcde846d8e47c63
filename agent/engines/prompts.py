"""Where a prompt's text comes from: the model's author, or whoever talks to the model. Pure.

A chat template is written by the author and says where messages begin and end, by control tokens. A
message that holds the text of such a token must not begin or end anything. So the template is filled
with marks instead of contents; then each mark is replaced by its content, and a control token inside
a content is cut in two, so that the tokenizer, which gets the two parts one after the other, cannot
take it for one.
"""

import itertools
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from agent.engines.generation import ChatMessage
from agent.errors import BadModel


@dataclass(frozen=True, slots=True)
class Marked:
    """Messages for a template, with marks in place of their contents.

    Attributes:
        json: the messages as a template takes them.
        contents: what each mark stands for.
    """

    json: str
    contents: dict[str, str]


def marked(messages: Sequence[ChatMessage]) -> Marked:
    """Messages with marks that nobody can have written, since they are drawn now."""
    secret = secrets.token_hex(8)
    contents = {f"mark{secret}x{n}x": message.content for n, message in enumerate(messages)}
    plain = [{"role": m.role, "content": mark} for m, mark in zip(messages, contents, strict=True)]
    return Marked(msgspec.json.encode(plain).decode(), contents)


def unmarked(rendered: str, contents: dict[str, str], controls: "Controls") -> list[str]:
    """A filled template with the contents in place, cut inside the control tokens of contents.

    Returns:
        The text in parts, to be tokenized one by one.
    """
    if not contents:
        return [rendered]
    parts = re.split("(" + "|".join(contents) + ")", rendered)
    text, cuts = "", []
    for part in parts:
        if part in contents:
            cuts += [len(text) + cut for cut in controls.cuts(contents[part])]
            part = contents[part]  # noqa: PLW2901
        text += part
    return divided(text, cuts)


def divided(text: str, cuts: Sequence[int]) -> list[str]:
    """A text in parts, cut at these places."""
    edges = [0, *cuts, len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


class _Added(msgspec.Struct):
    content: str
    special: bool = False


class _Tokenizer(msgspec.Struct):
    added_tokens: list[_Added] = []


class Controls:
    """A tokenizer's control tokens: what its author marks as special, and what looks like a tag."""

    def __init__(self, texts: Sequence[str]) -> None:
        ordered = sorted(set(filter(None, texts)), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None

    @classmethod
    def of(cls, tokenizer: bytes) -> "Controls":
        """Those of a `tokenizer.json`. Raises BadModel."""
        try:
            added = msgspec.json.decode(tokenizer, type=_Tokenizer).added_tokens
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadModel(f"it cannot be read: {error}", where="tokenizer.json") from error
        return cls([a.content for a in added if a.special or _is_tag(a.content)])

    def cuts(self, text: str) -> list[int]:
        """Places inside the control tokens that a text holds, one in each."""
        if self._pattern is None:
            return []
        return [found.start() + 1 for found in self._overlapping(text) if len(found[0]) > 1]

    def _overlapping(self, text: str) -> list[re.Match[str]]:
        """Every occurrence, also one that begins inside another: a cut may set it free."""
        found, start = [], 0
        assert self._pattern is not None
        while match := self._pattern.search(text, start):
            found.append(match)
            start = match.start() + 1
        return found


def _is_tag(text: str) -> bool:
    return len(text) > 2 and (text[0], text[-1]) in {("<", ">"), ("[", "]")}


def trimmed(messages: Sequence[ChatMessage]) -> tuple[ChatMessage, ...] | None:
    """The conversation without its oldest message that may go; None when none may."""
    for place, message in enumerate(messages[:-1]):
        if message.role != "system":
            return (*messages[:place], *messages[place + 1 :])
    return None
