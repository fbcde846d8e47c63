"""Texts that a command is given, as arguments or one on each line of standard input, and texts that it shows."""

import sys
from collections.abc import Sequence

from agent.errors import BadPayload

#: Control characters (C0, DEL, C1) but the line feed and the tab: they would command the terminal.
_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {0x09, 0x0A})


def visible(text: str) -> str:
    """What a model wrote, without what a terminal would obey instead of showing."""
    return text.translate(_CONTROLS)


def given_texts(arguments: Sequence[str]) -> list[str]:
    """The arguments, or the lines of standard input that hold something. Raises BadPayload: neither."""
    found = list(arguments) or [line for line in (line.rstrip("\n") for line in sys.stdin) if line]
    if not found:
        raise BadPayload("there is no text", hint="Name texts, or write one on each line of stdin")
    return found
