"""Tokens for callers that the kernel cannot name: those over TCP.

Only hashes are kept. A token is random and long, so one round of SHA-256 is enough: there is no
dictionary to try.
"""

import hashlib
import secrets
from collections.abc import Callable, Iterable

from agent.api.callers import Caller, Role
from agent.api.rates import Account

NOBODY = -1  # user and group of a caller whom a token names


def issue(role: Role) -> tuple[str, str]:
    """A new token, and the entry of the configuration that lets it in."""
    token = secrets.token_urlsafe(32)
    return token, f"{role.name.lower()}:{_digest(token.encode())}"


class Tokens:
    """Maps tokens to callers, each with an account of its own."""

    def __init__(self, entries: Iterable[str], account: Callable[[str], Account]) -> None:
        self._callers: dict[str, Caller] = {}
        for entry in entries:
            role, _, digest = entry.partition(":")
            self._callers[digest] = Caller(NOBODY, NOBODY, 0, Role[role.upper()], account(role))

    def caller(self, authorization: bytes) -> Caller | None:
        """Who sends this Authorization header; None when nobody known does."""
        scheme, _, token = authorization.partition(b" ")
        if scheme.lower() != b"bearer":
            return None
        # Found by its hash: how long the search takes says nothing about a token.
        return self._callers.get(_digest(token.strip()))


def _digest(token: bytes) -> str:
    return hashlib.sha256(token).hexdigest()
