"""Functions that a model may call, as constrained JSON. Pure.

A small model is not asked whether it feels like calling a function in a form of its own: its answer
is constrained to JSON that is a call, or, where it may choose, a call or a reply in words.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agent.errors import BadPayload
from agent.tasks.generation.schemas import compact, fitted_arguments

MAX_TOOLS = 64  # of a request

REPLY = "reply"  # the property that holds an answer in words


ToolName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+\Z")]


class Tool(msgspec.Struct, frozen=True):
    """A function.

    Attributes:
        name: what a call names.
        description: for the model.
        parameters: JSON schema of the arguments; None for a function that takes none.
    """

    name: ToolName
    description: str = ""
    parameters: dict[str, Any] | None = None


class Call(msgspec.Struct, frozen=True):
    """A call of a function; `arguments` is JSON, as the model wrote it."""

    name: str
    arguments: str


def instructions(tools: Sequence[Tool], *, may_reply: bool) -> str:
    """What the model is told."""
    lines = ["You can call these functions:"]
    lines += [msgspec.json.encode(msgspec.to_builtins(tool)).decode() for tool in tools]
    lines.append('To call one, answer with JSON: {"name": its name, "arguments": its arguments}.')
    if may_reply:
        lines.append(f'To answer in words instead: {{"{REPLY}": your answer}}.')
    return "\n".join(lines)


def schema(tools: Sequence[Tool], *, may_reply: bool) -> str:
    """JSON schema of the answers that the model may give."""
    arguments, choices = {}, []
    for number, tool in enumerate(tools):
        name = f"arguments{number}"  # a tool's references stay inside its own definition
        arguments[name] = fitted_arguments(tool.parameters, root=f"#/$defs/{name}")
        of = {"$ref": f"#/$defs/{name}"}
        choices.append(_object({"name": {"const": tool.name}, "arguments": of}))
    if may_reply:
        choices.append(_object({REPLY: {"type": "string"}}))
    whole = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return compact({**whole, "$defs": arguments})


def parsed(answer: str) -> Call | str:
    """A whole answer: a call, or words.

    Raises:
        BadPayload: it is neither, as when it was cut short.
    """
    try:
        fields = msgspec.json.decode(answer, type=dict[str, msgspec.Raw])
        if REPLY in fields:
            return msgspec.json.decode(fields[REPLY], type=str)
        name = msgspec.json.decode(fields["name"], type=str)
        return Call(name, bytes(fields["arguments"]).decode())
    except (msgspec.MsgspecError, KeyError, UnicodeDecodeError) as error:
        raise BadPayload("the answer is not whole; allow it more tokens") from error


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
