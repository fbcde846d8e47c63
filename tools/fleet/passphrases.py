"""What protects keys: asked for at the terminal, or taken from the environment."""

import os
import sys

import click

from agent.errors import BadKey

PASSPHRASE_VARIABLE = "EDGE_FLEET_PASSPHRASE"  # noqa: S105 - a variable's name
PIN_VARIABLE = "EDGE_FLEET_PIN"


class Passphrases:
    """The passphrase of every key file: from the environment, or asked for once.

    Args:
        confirm: ask twice, because it is for new keys.
    """

    def __init__(self, *, confirm: bool = False) -> None:
        self._confirm = confirm
        self._known: bytes | None = None

    def __call__(self, name: str) -> bytes | None:
        if self._known is None:
            self._known = self._ask(name)
        return self._known

    def _ask(self, name: str) -> bytes | None:
        if given := os.environ.get(PASSPHRASE_VARIABLE):
            return given.encode()
        if not sys.stdin.isatty():
            hint = f"Set {PASSPHRASE_VARIABLE}; for development: edge-fleet init --no-passphrase"
            raise BadKey("a passphrase is needed", where=name, hint=hint)
        text: str = click.prompt(
            f"Passphrase of {name}", hide_input=True, confirmation_prompt=self._confirm
        )
        return text.encode()


class Pins:
    """The PIN of a hardware token: from the environment, or asked for once."""

    def __init__(self) -> None:
        self._known: str | None = None

    def __call__(self, name: str) -> str:
        if self._known is None:
            self._known = os.environ.get(PIN_VARIABLE) or self._ask(name)
        return self._known

    @staticmethod
    def _ask(name: str) -> str:
        if not sys.stdin.isatty():
            hint = f"Set {PIN_VARIABLE}, or run the command in a terminal"
            raise BadKey("a hardware token asks for its PIN", where=name, hint=hint)
        text: str = click.prompt(f"Token's {name}", hide_input=True)
        return text
