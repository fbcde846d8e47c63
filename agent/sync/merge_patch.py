"""JSON merge patches (RFC 7396). Pure."""

from collections.abc import Mapping
from typing import Any

MAX_DEPTH = 32  # of nested objects


def merge(target: Any, patch: Any, depth: int = MAX_DEPTH) -> Any:
    """The target as the patch would have it; null takes a member out. Neither is changed.

    Raises:
        ValueError: the patch is nested too deep.
    """
    if not isinstance(patch, Mapping):
        return patch
    if not depth:
        raise ValueError(f"a patch is nested at most {MAX_DEPTH} deep")
    merged = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value, depth - 1)
    return merged
