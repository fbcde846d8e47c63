"""Where in a file an operator is that the runtime lacks.

To be imported where one is looked for: see `flatbuffer`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from agent.errors import BadModel
from tools.quantize.tflite.flatbuffer import unpacked

LACKING = re.compile(r"lacks the operator (\w+)")


def located(error: BadModel, path: Path) -> BadModel:
    """A refusal of the runtime with the file, and with the first node of the operator that it names."""
    found = LACKING.search(error.message)
    nodes = _nodes(path, found[1]) if found else iter(())
    where = next((f"{path}: {node}" for node in nodes), str(path))
    return BadModel(error.message, where=where, hint=error.hint)


def _nodes(path: Path, operator: str) -> Iterator[str]:
    model = unpacked(path.read_bytes())
    names = [_name(code) for code in model.operatorCodes]
    for graph in model.subgraphs:
        for number, node in enumerate(graph.operators):
            if names[node.opcodeIndex] == operator:
                outputs = ", ".join(_text(graph.tensors[i].name) for i in node.outputs)
                yield f"subgraph {_text(graph.name)}, node {number} ({outputs})"


def _name(code: Any) -> str:
    """The custom operator's own name, or the schema's; older files have the number elsewhere."""
    if code.customCode:
        return _text(code.customCode)
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    return _BUILTIN.get(number) or str(number)


def _text(name: bytes | None) -> str:
    return (name or b"").decode(errors="replace")


_BUILTIN: dict[int, str] = {
    number: name for name, number in vars(schema.BuiltinOperator).items() if name.isupper()
}
