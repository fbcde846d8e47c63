"""Where in a TOML text a key stands. For error messages: the parser itself gives no positions."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator

Path = tuple[str | int, ...]

_HEADER = re.compile(r"^\s*(\[{1,2})\s*([^\[\]]+?)\s*\]{1,2}\s*(#.*)?$")
_KEY = re.compile(
    r"""^\s*((?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*'))*)\s*="""
)
_PART = re.compile(r"""[A-Za-z0-9_-]+|"[^"]*"|'[^']*'""")


def locate(text: str, path: Path) -> int | None:
    """The line (from 1) of the key or table at `path`, or of the nearest table that holds it.

    Args:
        text: a valid TOML document.
        path: keys and array indexes, for example ``("source", 1, "broker")``.
    """
    found: dict[Path, int] = {}
    for where, line in _entries(text):
        found.setdefault(where, line)
    for length in range(len(path), 0, -1):
        if path[:length] in found:
            return found[path[:length]]
    return None


def _entries(text: str) -> Iterator[tuple[Path, int]]:
    """Every header and key with its full path; multi-line strings may add harmless extras."""
    table: Path = ()
    seen: Counter[Path] = Counter()
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            parts = _split(header[2])
            table = (*_indexed(parts[:-1], seen), *parts[-1:])
            if header[1] == "[[":
                seen[table] += 1
                table = (*table, seen[table] - 1)
            yield table, number
        elif key := _KEY.match(line):
            yield (*table, *_split(key[1])), number


def _indexed(parts: Iterable[str], seen: Counter[Path]) -> Path:
    """The path of a table inside others; in an array, inside its last element."""
    path: Path = ()
    for part in parts:
        path = (*path, part)
        if seen[path]:
            path = (*path, seen[path] - 1)
    return path


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _PART.findall(dotted))
