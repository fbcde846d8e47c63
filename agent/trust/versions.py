"""Semantic versions (semver.org, 2.0.0): which of two is newer, and which to install. Pure."""

import re
from collections.abc import Iterable

SEMANTIC_VERSION = re.compile(
    r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)

_Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def sort_key(version: str) -> _Key:
    """Orders versions by precedence (clause 11); build metadata does not count.

    Raises:
        ValueError: not a semantic version.
    """
    found = SEMANTIC_VERSION.fullmatch(version)
    if not found:
        raise ValueError(f"not a semantic version: {version[:60]}")
    major, minor, patch, pre = found.groups()
    identifiers = tuple(_identifier(part) for part in pre.split(".")) if pre else ()
    return int(major), int(minor), int(patch), not pre, identifiers


def newest(versions: Iterable[str]) -> str | None:
    """The newest release, or the newest pre-release where there is no release; None for none."""
    known = [version for version in versions if SEMANTIC_VERSION.fullmatch(version)]
    releases = [version for version in known if not is_prerelease(version)]
    return max(releases or known, key=sort_key, default=None)


def is_prerelease(version: str) -> bool:
    """Whether the version has a pre-release part, as in 1.0.0-rc.1."""
    return "-" in version.partition("+")[0]


def _identifier(part: str) -> tuple[bool, int, str]:
    # Numeric identifiers compare as numbers and come before alphanumeric ones.
    return (False, int(part), "") if part.isdecimal() else (True, 0, part)
