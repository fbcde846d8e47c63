"""Commands and options that the documentation names exist."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.commands import PROGRAMS, Called, program

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/performance/*.md")])

FENCED = re.compile(r"^```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
CALL = re.compile(rf"\b({'|'.join(PROGRAMS)})\b((?: +[^\s|;&#)>]+)*)")
OPTION = re.compile(r"--[a-z][a-z-]*")

ALL_OPTIONS = {
    name for top in PROGRAMS for called in program(top).everything() for name in called.names
}


def fragments(text: str) -> Iterator[str]:
    """Lines of code: those of blocks, a continued one as one, and those inside sentences."""
    for block in FENCED.findall(text):
        yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(FENCED.sub("", text))


def unknown(called: Called, words: list[str]) -> list[str]:
    """Words of a call that its command does not have."""
    known = set(called.names)
    for word in words:
        children = {child.name.rpartition(" ")[2]: child for child in called.children()}
        if word in children:
            called = children[word]
            known |= called.names
    given = (match[0] for word in words if (match := OPTION.match(word)))
    return [f"{called.name} {name}" for name in given if name not in known]


def wrong(fragment: str) -> list[str]:
    """What a fragment names and no command has."""
    if calls := CALL.findall(fragment):
        return [one for name, rest in calls for one in unknown(program(name), rest.split())]
    alone = OPTION.match(fragment)  # an option by itself, in a sentence
    return [alone[0]] if alone and alone[0] not in ALL_OPTIONS else []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    found = [one for fragment in fragments(page.read_text()) for one in wrong(fragment)]
    assert found == []


@pytest.mark.parametrize(
    ("fragment", "found"),
    [
        ("edge-agent outbox drain --seconds 5", []),
        ("edge-agent status --limit 3", ["edge-agent status --limit"]),
        ("cd x && edge-agent models --config f install a --form b", ["edge-agent models install --form"]),
        ("--label-columns", ["--label-columns"]),
        ("curl --unix-socket s http://d/", []),
    ],
)  # fmt: skip
def test_a_wrong_one_is_noticed(fragment: str, found: list[str]) -> None:
    assert wrong(fragment) == found
