"""Error codes are an interface: stable, unique and documented."""

import re
from pathlib import Path

from agent import errors
from agent.errors import AgentError

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def all_errors() -> list[type[AgentError]]:
    found = [AgentError]
    for cls in found:
        found += cls.__subclasses__()
    return [cls for cls in found if cls.__module__ == errors.__name__]


def test_codes_are_unique_and_dotted() -> None:
    codes = [cls.code for cls in all_errors()]
    assert len(set(codes)) == len(codes)
    assert [code for code in codes if not re.fullmatch(r"[a-z]+\.[a-z_]+", code)] == []


def test_every_code_is_in_the_drawing() -> None:
    """The tree at the head of agent/errors.py names each class with its own code."""
    drawing = dict(re.findall(r"── (\w+) +([a-z]+\.[a-z_]+)", errors.__doc__ or ""))
    leaves = {cls.__name__: cls.code for cls in all_errors() if not cls.__subclasses__()}
    assert drawing == leaves


def test_every_code_is_documented() -> None:
    """docs/errors.md has a row for each code, and none for a code that does not exist."""
    documented = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)`", PAGE.read_text(), re.MULTILINE))
    assert documented == {cls.code for cls in all_errors() if not cls.__subclasses__()}
