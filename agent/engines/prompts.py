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
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from agent.engines.generation import ChatMessage, GenerationRequest
from agent.errors import BadModel, BadPayload

_MARK = re.compile(r"(mark[0-9a-f]{16}x[0-9]+x)")


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
    parts = _MARK.split(rendered)
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


def refuse_nul(request: GenerationRequest) -> None:
    """The runtime's strings end at U+0000: what comes after it would be lost without a word.

    Raises:
        BadPayload: a text of the request holds one; `where` says which.
    """
    texts = [(f"messages[{n}].content", m.content) for n, m in enumerate(request.messages)]
    texts += [("prompt", request.text), *((f"stop[{n}]", s) for n, s in enumerate(request.stop))]
    if request.constraint is not None:
        texts.append((request.constraint.kind, request.constraint.text))
    for where, text in texts:
        if "\0" in text:
            raise BadPayload("holds the character U+0000", where=where, hint="Leave it out")


# Conversations larger than the window


def without_oldest(messages: Sequence[ChatMessage], count: int) -> Sequence[ChatMessage]:
    """A conversation without so many of its oldest messages that may go."""
    gone = set(_may_go(messages)[:count])
    return [message for place, message in enumerate(messages) if place not in gone]


def fewest_left_out(
    messages: Sequence[ChatMessage],
    most: int,
    size: Callable[[str], int],
    fits: Callable[[int], bool],
) -> int:
    """How many of a conversation's oldest messages must go; all that may, where that is not enough.

    A conversation of any length costs the sizes of those that stay, and as many attempts as its number
    of messages has binary digits.

    Args:
        messages: the conversation.
        most: tokens that it may have.
        size: tokens of a content, without what a template adds; asked once for each, at most.
        fits: whether it has room without so many, as the template writes it.
    """
    may_go = _may_go(messages)
    fewest = _by_size(messages, may_go, most, size)
    if fits(fewest):
        return fewest
    more = range(fewest + 1, len(may_go))
    return min(len(may_go), fewest + 1 + bisect_left(more, True, key=fits))


def _by_size(
    messages: Sequence[ChatMessage], may_go: Sequence[int], most: int, size: Callable[[str], int]
) -> int:
    """The same by the contents alone, the newest first: no older one is looked at than must be."""
    going = set(may_go)
    room = most - sum(size(m.content) for n, m in enumerate(messages) if n not in going)
    for count in range(len(may_go), 0, -1):
        room -= size(messages[may_go[count - 1]].content) if room >= 0 else 0
        if room < 0:
            return count
    return 0


def _may_go(messages: Sequence[ChatMessage]) -> list[int]:
    """Places of the messages that may be left out, the oldest first."""
    return [place for place, message in enumerate(messages[:-1]) if message.role != "system"]
