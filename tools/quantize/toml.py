"""The text of a `model.toml`. Pure.

The standard library reads TOML and does not write it; a manifest needs only a few of its forms, all
of which are written here.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agent.types import TensorSpec
from tools.quantize.family import Score

if TYPE_CHECKING:
    from tools.quantize.package import Draft

GOLDEN_FILE = "golden.npz"


def manifest(draft: "Draft", files: Sequence[Mapping[str, str | int]]) -> str:
    """A manifest from its parts; `files` holds path, role, sha256 and size of each."""
    identity, description = draft.identity, draft.description
    head = {
        "format": 1,
        "name": identity.name,
        "version": identity.version,
        "task": description.task,
        "engine": draft.artifact.engine,
        "summary": identity.summary,
        "license": identity.license,
    }
    parameters = {**draft.artifact.parameters, **description.parameters}
    parts = [
        _table("", head),
        *(_table("[[files]]", file) for file in files),
        *(_table("[[inputs]]", _tensor(spec)) for spec in description.inputs),
        *(_table("[[outputs]]", _tensor(spec)) for spec in description.outputs),
        _table("[resources]", _resources(draft)),
        _table("[parameters]", parameters) if parameters else "",
        _table("[evaluation]", {"data": description.data, "limits": description.limits}),
        *(_table("[[evaluation.metrics]]", _metric(score)) for score in draft.scores),
        *(
            _table("[[golden]]", {"name": c.name, "file": GOLDEN_FILE, "tolerance": c.tolerance})
            for c in description.golden
        ),
    ]
    return "\n".join(part for part in parts if part)


def _resources(draft: "Draft") -> dict[str, int]:
    description = draft.description
    memory_mib = description.memory_mib or draft.memory_mib
    return {"memory_mib": memory_mib, "threads": description.threads}


def value(item: Any) -> str:
    """One value as TOML; tables are written inline."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, str):
        return json.dumps(item, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(item, int | float):
        return repr(item)
    if isinstance(item, Mapping):
        inside = ", ".join(f"{_key(k)} = {value(v)}" for k, v in item.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(item, Sequence):
        return f"[{', '.join(value(v) for v in item)}]"
    raise TypeError(f"a {type(item).__name__} cannot be written to a manifest")


def _key(name: str) -> str:
    plain = name and all(c.isascii() and (c.isalnum() or c in "_-") for c in name)
    return name if plain else value(name)


def _table(head: str, fields: Mapping[str, Any]) -> str:
    lines = [head] if head else []
    return "\n".join([*lines, *(f"{_key(k)} = {value(v)}" for k, v in fields.items())]) + "\n"


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    fields: dict[str, Any] = {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}
    if spec.unit:
        fields["unit"] = spec.unit
    if spec.quantization:
        q = spec.quantization
        fields["quantization"] = {"scale": float(q.scale), "zero_point": q.zero_point}
    return fields


def _metric(score: Score) -> dict[str, Any]:
    return {"name": score.metric, "slice": score.slice, "value": float(f"{score.value:.6g}")}
