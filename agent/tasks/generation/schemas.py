"""JSON schemas as programs send them, made fit for the grammar engine. Pure.

Programs send what their own libraries make: references into `$defs`, `oneOf`, formats of other
worlds, objects that do not say whether they are closed. Whatever is written under the schema that is
made here is an instance of the one that was sent.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from agent.errors import BadPayload

MAX_DEPTH = 50  # objects and lists inside one another: with what is put around them, within the engine's bound
MAX_PARTS = 20_000  # objects and lists in the schemas of a request

#: Formats that the grammar engine knows; any other is a remark (JSON Schema, validation, 7.2.1).
FORMATS = frozenset(
    "date-time time date duration email hostname ipv4 ipv6 uuid unknown".split()  # noqa: SIM905
)

_ONE = frozenset(
    "items additionalItems additionalProperties contains propertyNames not if then else "  # noqa: SIM905
    "unevaluatedItems unevaluatedProperties".split()
)
_LISTED = frozenset({"allOf", "anyOf", "oneOf", "prefixItems", "items"})
_NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
_JOINED = frozenset({"allOf", "anyOf", "oneOf", "$ref"})
_SAYS_MORE = frozenset(
    {"additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"}
)


def measured(value: Any, where: str, known: int = 0) -> int:
    """How many objects and lists there are, counted level by level so that depth costs nothing.

    Args:
        value: a schema as it was sent.
        where: its field.
        known: objects and lists of the same request that were counted before.

    Raises:
        BadPayload: more than `MAX_PARTS`, or nested deeper than `MAX_DEPTH`.
    """
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [child for parent in level for child in _children(parent)]
        known += len(level)
        if known > MAX_PARTS:
            raise BadPayload(f"more than {MAX_PARTS} objects and lists in all", where=where)
        if not level:
            return known
    raise BadPayload(f"nested more than {MAX_DEPTH} deep", where=where)


def fitted_arguments(parameters: Mapping[str, Any] | None, *, root: str) -> dict[str, Any]:
    """`fitted` for the arguments of a function: an object, empty unless something is said of it."""
    schema = {"type": "object", **(parameters or {})}
    if _SAYS_MORE.isdisjoint(schema) and _JOINED.isdisjoint(schema):
        schema = {"properties": {}, **schema}
    return fitted(schema, root=root)


def fitted(schema: Mapping[str, Any], *, root: str = "#") -> dict[str, Any]:
    """A schema for the grammar engine.

    Formats that it does not know are left out. An object that lists its properties and does not say
    whether it may have others has no others: a small model would go on inventing them. Where schemas
    are joined (several `allOf`, `$ref` or `anyOf` beside properties), all objects stay as they are,
    since a closed one forbids what the other part asks for.

    Args:
        schema: as it was sent, at most `MAX_DEPTH` deep.
        root: where it will stand in the whole schema; its references are turned there.
    """
    return _fitted(schema, root, closes=not _joins(schema))


def compact(schema: Mapping[str, Any]) -> str:
    """A whole schema as text, whose instances are written without free white space.

    A small model that may write a space or a line end anywhere writes nothing else for ever. Of
    `oneOf` the grammar engine can only keep that one of them holds, which is `anyOf`.
    """
    options = {"whitespace_flexible": False, "coerce_one_of": True}
    return msgspec.json.encode({**schema, "x-guidance": options}).decode()


def _fitted(schema: Mapping[str, Any], root: str, *, closes: bool) -> dict[str, Any]:
    made = {
        key: _over(key, value, lambda part: _fitted(part, root, closes=closes))
        for key, value in schema.items()
        if not _dropped(key, value, nested=root != "#")
    }
    target = made.get("$ref")
    if isinstance(target, str) and target.startswith("#"):
        made["$ref"] = root + target[1:]
    return {**made, "additionalProperties": False} if closes and _open(made) else made


def _over(key: str, value: Any, act: Callable[[Mapping[str, Any]], Any]) -> Any:
    """A keyword's value with `act` done to each schema in it; what only looks like one, as in `enum`, is none."""

    def done(part: Any) -> Any:
        return act(part) if isinstance(part, dict) else part

    if key in _ONE and isinstance(value, dict):
        return act(value)
    if key in _LISTED and isinstance(value, list):
        return [done(part) for part in value]
    if key in _NAMED and isinstance(value, dict):
        return {name: done(part) for name, part in value.items()}
    return value


def _dropped(key: str, value: Any, *, nested: bool) -> bool:
    """Whether the grammar engine is better off without it; an `$id` inside would move references."""
    if key == "format":
        return not (isinstance(value, str) and value in FORMATS)
    return nested and key in {"$id", "$schema"}


def _open(schema: Mapping[str, Any]) -> bool:
    """Whether it is an object with listed properties, all that it asks for among them, and no more said."""
    listed = schema.get("properties")
    if not isinstance(listed, dict) or _SAYS_MORE & schema.keys():
        return False
    required = schema.get("required")
    return not isinstance(required, list) or all(
        isinstance(name, str) and name in listed for name in required
    )


def _joins(schema: Mapping[str, Any]) -> bool:
    """Whether it, or a schema in it, is several that hold together."""
    parts = schema.get("allOf")
    if isinstance(parts, list) and len(parts) > 1:
        return True
    if "properties" in schema and not _JOINED.isdisjoint(schema):
        return True
    found: list[bool] = []
    for key, value in schema.items():
        _over(key, value, lambda part: found.append(_joins(part)))
    return any(found)


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [v for v in value if isinstance(v, dict | list)] if isinstance(value, list) else []
