"""Messages as OpenAI's clients send them, and as a model reads them. Pure."""

from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from agent.engines.generation import ChatMessage, Role
from agent.errors import BadPayload
from agent.tasks.generation.tools import MAX_TOOLS

#: What a client may call the one who speaks, and what a chat template calls the same.
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",  # from before there were tools
}


class Part(Struct):
    """A part of a message's content; only text is understood, and that the assistant refused."""

    type: str
    text: str | None = None
    refusal: str | None = None


class Function(Struct):
    """A call that the assistant made in an earlier turn; `arguments` is JSON."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(Struct):
    """See `Function`; `id` is what its result names."""

    function: Function
    id: str | None = None


class Message(Struct):
    """A message as it is sent."""

    role: Annotated[str, Meta(extra_json_schema={"enum": list(ROLES)})]
    content: str | list[Part] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None
    tool_call_id: str | None = None
    function_call: Function | None = None


def conversation(messages: Sequence[Message]) -> list[ChatMessage]:
    """What a model reads: calls, and their results with the function's name, are JSON in the text.

    Raises:
        BadPayload: an unknown role, or a content that is no text; `where` names it.
    """
    calls: dict[str, dict[str, Any]] = {}
    told = []
    for number, message in enumerate(messages):
        role = ROLES.get(message.role)
        if role is None:
            known = ", ".join(ROLES)
            raise BadPayload(
                f"{message.role[:40]!r} is no role; there are {known}",
                where=f"messages[{number}].role",
            )
        text = _text(message, f"messages[{number}].content")
        if role == "tool":
            text = _result(message, text, calls)
        made = [call.function for call in message.tool_calls or ()]
        if message.function_call is not None:
            made.append(message.function_call)
        calls |= _remembered(message.tool_calls or ())
        told.append(ChatMessage(role, "\n".join(filter(None, [text, *map(_called, made)]))))
    return told


def with_instructions(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    """The conversation with something more for the model to know."""
    first = messages[0]
    if first.role == "system":
        return [ChatMessage("system", f"{first.content}\n\n{text}"), *messages[1:]]
    return [ChatMessage("system", text), *messages]


def _text(message: Message, where: str) -> str:
    content = message.content
    if not isinstance(content, list):
        return content or message.refusal or ""
    for place, part in enumerate(content):
        if part.type not in {"text", "refusal"}:
            raise BadPayload(
                f"this model reads text only, not {part.type[:40]!r}",
                where=f"{where}[{place}].type",
            )
    return "".join(part.text or part.refusal or "" for part in content)


def _remembered(calls: Sequence[ToolCall]) -> dict[str, dict[str, Any]]:
    """What results of these calls begin with: the function, and what it was called with if it was called twice."""
    times = Counter(call.function.name for call in calls)
    return {
        call.id: _fields(call.function, arguments=times[call.function.name] > 1)
        for call in calls
        if call.id
    }


def _result(message: Message, text: str, calls: dict[str, dict[str, Any]]) -> str:
    """A result, with what it is the result of, if that is known."""
    call = calls.get(message.tool_call_id or "")
    if call is None:
        call = {"name": message.name} if message.name else {}
    return _json({**call, "result": _raw(text)}) if call else text


def _called(function: Function) -> str:
    return _json(_fields(function, arguments=True))


def _fields(function: Function, *, arguments: bool) -> dict[str, Any]:
    name = {"name": function.name or ""}
    return {**name, "arguments": _raw(function.arguments or "{}")} if arguments else name


def _raw(text: str) -> msgspec.Raw | str:
    """A text that is JSON as that; any other as the text that it is."""
    try:
        msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return text
    return msgspec.Raw(text.encode())


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
