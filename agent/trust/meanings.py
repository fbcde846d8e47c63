"""What python-tuf's exceptions mean to us: one table, and the block that applies it.

Named by module and class, so that reading the table imports nothing.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from agent.errors import (
    AgentError,
    Altered,
    BadRepository,
    Expired,
    NotReachable,
    RolledBack,
    StorageFailed,
    TooLarge,
    Unsigned,
)

#: Foreign exception, by module and name, to ours; a subclass takes its nearest listed ancestor's.
MEANINGS: Mapping[str, type[AgentError]] = {
    "tuf.api.exceptions.UnsignedMetadataError": Unsigned,
    "tuf.api.exceptions.BadVersionNumberError": RolledBack,
    "tuf.api.exceptions.ExpiredMetadataError": Expired,
    "tuf.api.exceptions.LengthOrHashMismatchError": Altered,
    "tuf.api.exceptions.RepositoryError": BadRepository,
    "tuf.api.exceptions.DownloadLengthMismatchError": TooLarge,
    "tuf.api.exceptions.DownloadError": NotReachable,
    "securesystemslib.exceptions.UnverifiedSignatureError": Unsigned,
    "securesystemslib.exceptions.StorageError": StorageFailed,
    "securesystemslib.exceptions.KeyMismatchError": Unsigned,
    "securesystemslib.exceptions.Error": BadRepository,
    "builtins.OSError": StorageFailed,
    # What python-tuf lets through of metadata that is signed and yet makes no sense.
    "builtins.ValueError": BadRepository,
    "builtins.LookupError": BadRepository,
    "builtins.TypeError": BadRepository,
    "builtins.RecursionError": BadRepository,
}


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Turn what python-tuf raises inside the block into errors of ours."""
    try:
        yield
    except AgentError:
        raise
    except Exception as error:
        if isinstance(error.__cause__, AgentError):  # a source's own, carried through the library
            raise error.__cause__ from None
        ours = meaning(type(error))
        if ours is None:
            raise
        raise _translate(error, ours, where) from error


def meaning(foreign: type[BaseException]) -> type[AgentError] | None:
    """Our class for a foreign one: that of its nearest ancestor in the table."""
    for ancestor in foreign.__mro__:
        if found := MEANINGS.get(f"{ancestor.__module__}.{ancestor.__qualname__}"):
            return found
    return None


def _translate(error: Exception, ours: type[AgentError], where: str) -> AgentError:
    text = str(error).strip() or type(error).__name__
    if "spec_version" in f"{text} {error.__cause__}":
        hint = "Update the agent first"
        return BadRepository(
            "the repository follows a newer TUF specification", where=where, hint=hint
        )
    hint = _HINTS.get(ours, "")
    return ours(text.splitlines()[0][:300].rstrip("."), where=where, hint=hint)


_HINTS: Mapping[type[AgentError], str] = {
    Expired: "Run edge-fleet refresh where the repository is published, or set this device's clock",
    Unsigned: "Was the repository made with the keys of this device's root?",
    RolledBack: "Use the current repository",
}
