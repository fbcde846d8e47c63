"""The workstation's libraries at one seam: whether they are there, what they print, how they fail."""

import contextlib
import errno
import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import AgentError, BadModel, EngineMissing, StorageFailed, TooLarge

LONGEST = 300  # characters of a library's own words
HINT = (
    "Run: pip install 'edge-agent[workstation]' in an environment of its own, "
    "or make workstation where the sources are"
)
DAMAGED = "See that it is whole and of this kind: download it, or save it, again"
_OURS = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TQDM_DISABLE": "1",
    "TRANSFORMERS_VERBOSITY": "error",
}


def missing(library: str) -> EngineMissing:
    """That a library is not installed, with the command that installs it."""
    return EngineMissing(f"a library is not installed: {library}", hint=HINT)


@contextmanager
def installed() -> Iterator[None]:
    """A library that cannot be imported, as EngineMissing."""
    try:
        yield
    except ImportError as error:
        raise missing(error.name or _said(error)) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without the network, and without what libraries print and log; their errors are raised."""
    os.environ |= _OURS
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


@contextmanager
def reading(
    source: Path,
    staging: Path | None = None,
    hint: str = DAMAGED,
    what: str = "cannot be read",
) -> Iterator[None]:
    """Whatever libraries raise while they read a model, in our words.

    Keep it narrow: a mistake of ours inside would be taken for one of the model.

    Args:
        source: what the user gave.
        staging: where it was put for the library; its path in a message becomes the source's.
        hint: what to do about a model that is refused.
        what: was to be done with it.

    Raises:
        BadModel: the library refuses the model.
        EngineMissing: a library is not installed.
        StorageFailed: the disk is full.
        TooLarge: memory ran out.
    """
    try:
        with installed():
            yield
    except AgentError:
        raise
    except MemoryError as error:
        raise TooLarge("memory ran out while it was read", where=str(source)) from error
    except Exception as error:  # a library may raise anything; this is the seam
        text = _said(error)
        if os.strerror(errno.ENOSPC) in text:
            raise StorageFailed(text, where=str(source), hint="Free some space") from error
        if staging is not None:
            text = text.replace(str(staging), str(source))
        raise BadModel(f"{what}: {text}", where=str(source), hint=hint) from error


def _said(error: Exception) -> str:
    """What an error says in one line; with its kind, where that is a word or less."""
    text = one_line(error).rstrip(".")
    return text if " " in text else f"{type(error).__name__} {text}".rstrip()


def one_line(error: Exception) -> str:
    """What an error says, on one line, not too long."""
    return " ".join(str(error).split())[:LONGEST]
