"""What an operator may desire of a running device: settings by path, checked one by one. Pure.

A setting that is not desired, or whose value is refused, has the value of the configuration file. The
others take effect all the same.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent.errors import AgentError
from agent.sync.pace import QuietHours

MAX_BYTES = 64 << 10  # of a desired document
MAX_REJECTED = 100  # reasons in one report

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Number:
    """A number within bounds, both included."""

    low: float
    high: float
    whole: bool = False

    def problem(self, value: object) -> str:
        """Why the value is refused; empty when it is not."""
        kinds: tuple[type, ...] = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds):
            return "must be a whole number" if self.whole else "must be a number"
        inside = self.low <= value <= self.high  # type: ignore[operator]
        return "" if inside else f"must be between {self.low:g} and {self.high:g}"

    def schema(self) -> dict[str, Any]:
        """As JSON Schema says it."""
        kind = "integer" if self.whole else "number"
        return {"type": kind, "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words."""

    words: tuple[str, ...]

    def problem(self, value: object) -> str:
        """Why the value is refused; empty when it is not."""
        return "" if value in self.words else f"must be one of {', '.join(self.words)}"

    def schema(self) -> dict[str, Any]:
        """As JSON Schema says it."""
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class Hours:
    """Stretches of the day, ``22:00-06:00``."""

    def problem(self, value: object) -> str:
        """Why the value is refused; empty when it is not."""
        if not isinstance(value, Sequence) or not all(isinstance(item, str) for item in value):
            return "must be a list of texts"
        try:
            QuietHours.parse(list(value))
        except AgentError as error:
            return error.message
        return ""

    def schema(self) -> dict[str, Any]:
        """As JSON Schema says it."""
        hour = "([01][0-9]|2[0-3]):[0-5][0-9]"
        return {"type": "array", "items": {"type": "string", "pattern": f"^{hour}-{hour}$"}}


Kind = Number | Choice | Hours


@dataclass(frozen=True, slots=True)
class Group:
    """Settings that are applied together.

    Attributes:
        path: where they stand in the document.
        kinds: what each may be.
        defaults: the configuration's values.
        apply: makes all of them real; raises AgentError when they do not go together, and then has
            changed nothing.
    """

    path: Path
    kinds: Mapping[str, Kind]
    defaults: Mapping[str, Any]
    apply: Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Rejected:
    """A part of the document that has no effect.

    Attributes:
        path: JSON pointer (RFC 6901).
        reason: why.
    """

    path: str
    reason: str


def settle(
    document: Mapping[str, Any], groups: Sequence[Group]
) -> tuple[dict[Path, dict[str, Any]], list[Rejected]]:
    """The values of each group, by its path, and what of the document has no effect."""
    rejected: list[Rejected] = []
    values: dict[Path, dict[str, Any]] = {}
    for group in groups:
        values[group.path] = chosen = dict(group.defaults)
        part = _at(document, group.path)
        for name, value in part.items() if isinstance(part, Mapping) else ():
            if (kind := group.kinds.get(name)) is None:
                continue  # `_unknown` names it, unless it leads to another group
            if problem := kind.problem(value):
                rejected.append(Rejected(pointer((*group.path, name)), problem))
            else:
                chosen[name] = value
    rejected += _unknown(document, (), groups)
    return values, rejected[:MAX_REJECTED]


def nested(values: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """The values of all groups as one document."""
    document: dict[str, Any] = {}
    for path, chosen in values.items():
        place = document
        for name in path:
            place = place.setdefault(name, {})
        place.update(chosen)
    return document


def pointer(path: Path) -> str:
    """A path as RFC 6901 writes it."""
    return "".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path)


def _at(document: Any, path: Path) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


def _unknown(value: Any, path: Path, groups: Sequence[Group]) -> Iterator[Rejected]:
    """Members that are no setting, and values where an object of settings should be."""
    if not isinstance(value, Mapping):
        yield Rejected(pointer(path), "must be an object")
        return
    for name, member in value.items():
        here = (*path, name)
        if any(group.path == path and name in group.kinds for group in groups):
            continue
        if any(group.path[: len(here)] == here for group in groups):
            yield from _unknown(member, here, groups)
        else:
            yield Rejected(pointer(here), "is no setting of this device")
