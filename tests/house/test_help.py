"""What `--help` says: complete, and in one form, for every command and option."""

import re
from collections.abc import Callable
from pathlib import Path

import click

from tests.support.commands import PROGRAMS, Called, program

COMMANDS = [called for name in PROGRAMS for called in program(name).everything()]

#: A fragment that begins with a capital and ends with a full stop. A default that is no value
#: follows it.
FORM = re.compile(r"[A-Z0-9-].*\.(  \[default: [^\]]+\])?", re.DOTALL)

#: Words for the value of an option that is a real number; a factor has no unit.
UNITS = {"SECONDS", "[SECONDS]", "FACTOR"}
WITHOUT_UNIT = {"--temperature"}


def offending(wrong: Callable[[Called, click.Option], bool]) -> list[str]:
    """Options that are not as they should be."""
    return [
        f"{called.name} {option.opts[-1]}: {option.help}"
        for called in COMMANDS
        for option in called.options
        if wrong(called, option)
    ]


def test_every_command_says_what_it_does() -> None:
    said = {called.name: called.command.help or "" for called in COMMANDS}
    assert [name for name, text in said.items() if not re.match(r"[A-Z][^.]+[.:]", text)] == []


def test_every_command_takes_both_names_of_help() -> None:
    names = {c.name: set(c.command.get_help_option_names(c.context)) for c in COMMANDS}
    assert [name for name, found in names.items() if found != {"-h", "--help"}] == []


def test_every_program_tells_its_version() -> None:
    assert [name for name in PROGRAMS if "--version" not in program(name).names] == []


def test_every_option_says_what_it_is_in_one_form() -> None:
    assert offending(lambda _, option: not FORM.fullmatch(option.help or "")) == []


def test_every_option_shows_its_default() -> None:
    def hidden(called: Called, option: click.Option) -> bool:
        default, (_, text) = (
            option.get_default(called.context),
            option.get_help_record(called.context),
        )
        meant = isinstance(default, str | int | float | Path) and default != ""
        return not option.is_flag and meant and "[default: " not in text

    assert offending(hidden) == []
    assert offending(lambda _, option: "by default" in (option.help or "")) == []


def test_every_number_is_bounded() -> None:
    def unbounded(_: Called, option: click.Option) -> bool:
        number = isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
        return number and getattr(option.type, "min", None) is None

    assert offending(unbounded) == []


def test_every_real_number_has_its_unit_as_the_word_for_its_value() -> None:
    def unitless(_: Called, option: click.Option) -> bool:
        real = isinstance(option.type, click.types.FloatParamType)
        return real and option.metavar not in UNITS and option.opts[0] not in WITHOUT_UNIT

    assert offending(unitless) == []


def test_a_directory_is_called_so() -> None:
    """One word in usage lines, helps and messages."""
    said = [called.command.get_help(called.context) for called in COMMANDS]
    assert [text for text in said if re.search(r"\bDIR\b", text)] == []
