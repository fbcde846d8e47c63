"""Texts that a command is given: as arguments, or one on each line of standard input."""

import sys
from collections.abc import Sequence

from agent.errors import BadPayload


def given_texts(arguments: Sequence[str]) -> list[str]:
    """The arguments, or the lines of standard input that hold something. Raises BadPayload: neither."""
    found = list(arguments) or [line for line in (line.rstrip("\n") for line in sys.stdin) if line]
    if not found:
        raise BadPayload("there is no text", hint="Name texts, or write one on each line of stdin")
    return found
