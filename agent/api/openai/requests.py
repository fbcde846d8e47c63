"""What OpenAI's clients ask for, as a request of the engines. Pure."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.engines.generation import (
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TOP,
    ChatMessage,
    Constraint,
    GenerationRequest,
    Sampling,
)
from agent.errors import BadPayload
from agent.tasks.generation.tools import MAX_TOOLS, Tool, compact, instructions, schema

Tokens = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Stop = str | Annotated[list[str], Meta(max_length=MAX_STOPS)] | None
T = TypeVar("T", bound=Struct)

_OVERFLOW: Mapping[str | None, Literal["refuse", "trim"] | None] = {
    "auto": "trim",
    "disabled": "refuse",
    None: None,
}


class StreamOptions(Struct):
    """How an answer is streamed."""

    include_usage: bool = False


class Common(Struct):
    """Fields that chats and completions have in common; unknown ones are ignored, as OpenAI does.

    The last three are not of OpenAI's chats: top_k and repetition_penalty are as other servers have
    them; truncation "auto" leaves the oldest messages out of a conversation that is too long, "disabled"
    refuses it, and without either the model's manifest says which.
    """

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: Stop = None
    n: Annotated[int, Meta(ge=1, le=1)] | None = None
    logit_bias: Annotated[dict[str, float], Meta(max_length=0)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] = 0
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] = 1.0
    truncation: Literal["auto", "disabled"] | None = None

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k,
            repetition_penalty=self.repetition_penalty,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**63,
        )

    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class Part(Struct):
    """A part of a message's content; only text is understood."""

    type: str
    text: str = ""


class Function(Struct):
    """A call that the assistant made in an earlier turn."""

    name: str = ""
    arguments: str = ""


class ToolCall(Struct):
    """See `Function`."""

    function: Function


class Message(Struct):
    """A message as it is sent."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[Part] | None = None
    tool_calls: Annotated[list[ToolCall], Meta(max_length=MAX_TOOLS)] | None = None


class JsonSchema(Struct):
    """A schema with a name, which is of no use here."""

    name: str = ""
    schema: dict[str, Any] | None = None


class ResponseFormat(Struct):
    """What the answer must be; the type regex, with its pattern, is not OpenAI's."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    pattern: str = ""


class ToolItem(Struct):
    """A tool as it is sent."""

    type: Literal["function"]
    function: Tool


class FunctionName(Struct):
    """Which function."""

    name: str


class NamedTool(Struct):
    """A tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class ChatRequest(Common, kw_only=True):
    """A conversation that is to be answered."""

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[ToolItem], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP)] | None = None

    def calls_tools(self) -> bool:
        """Whether the answer is a call, or may be one."""
        return bool(self.tools) and self.tool_choice != "none"

    def generation(self) -> GenerationRequest:
        """The request of the engines. Raises BadPayload."""
        messages = [_message(n, message) for n, message in enumerate(self.messages)]
        constraint = _constraint(self.response_format)
        if self.calls_tools():
            if constraint is not None:
                raise BadPayload("does not go together with tools", where="response_format")
            tools, may_reply = self._tools()
            messages = _told(messages, instructions(tools, may_reply=may_reply))
            constraint = Constraint("json_schema", schema(tools, may_reply=may_reply))
        return GenerationRequest(
            messages=tuple(messages),
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=self.stops(),
            sampling=self.sampling(),
            constraint=constraint,
            top=(self.top_logprobs or 0) if self.logprobs else None,
            overflow=_OVERFLOW[self.truncation],
        )

    def _tools(self) -> tuple[list[Tool], bool]:
        tools = [item.function for item in self.tools or ()]
        choice = self.tool_choice
        if not isinstance(choice, NamedTool):
            return tools, choice != "required"
        tools = [tool for tool in tools if tool.name == choice.function.name]
        if not tools:
            raise BadPayload("there is no such function among the tools", where="tool_choice")
        return tools, False


class CompletionRequest(Common, kw_only=True):
    """A text that is to be continued."""

    prompt: str
    max_tokens: Tokens | None = 16
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP)] | None = None
    echo: Literal[False] | None = None
    best_of: Annotated[int, Meta(ge=1, le=1)] | None = None
    suffix: None = None

    def generation(self) -> GenerationRequest:
        """The request of the engines."""
        return GenerationRequest(
            text=self.prompt,
            max_tokens=self.max_tokens,
            stop=self.stops(),
            sampling=self.sampling(),
            top=self.logprobs,
        )


def decoded(data: bytes, kind: type[T]) -> T:
    """A request from a body.

    Raises:
        BadPayload: it is no such request; `where` names the field.
    """
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        where = path.removesuffix("`").removeprefix(".") or "body"
        raise BadPayload(message[:300], where=where) from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadPayload(f"not a JSON object: {error}", where="body") from None


def _message(number: int, message: Message) -> ChatMessage:
    role = "system" if message.role == "developer" else message.role
    content = message.content
    if isinstance(content, list):
        for place, part in enumerate(content):
            if part.type != "text":
                where = f"messages[{number}].content[{place}].type"
                raise BadPayload("this model reads text only", where=where)
        content = "".join(part.text for part in content)
    if message.tool_calls:
        calls = [_called(call.function) for call in message.tool_calls]
        content = "\n".join(filter(None, [content, *calls]))
    return ChatMessage(role, content or "")


def _called(function: Function) -> str:
    return f'{{"name": "{function.name}", "arguments": {function.arguments or "{}"}}}'


def _told(messages: Sequence[ChatMessage], text: str) -> list[ChatMessage]:
    """The conversation with something more for the model to know."""
    first = messages[0]
    if first.role == "system":
        return [ChatMessage("system", f"{first.content}\n\n{text}"), *messages[1:]]
    return [ChatMessage("system", text), *messages]


def _constraint(asked: ResponseFormat | None) -> Constraint | None:
    if asked is None or asked.type == "text":
        return None
    if asked.type == "json_object":
        return Constraint("json_schema", compact({"type": "object"}))
    if asked.type == "regex":
        if not asked.pattern:
            raise BadPayload("is missing", where="response_format.pattern")
        return Constraint("regex", asked.pattern)
    if asked.json_schema is None or asked.json_schema.schema is None:
        raise BadPayload("is missing", where="response_format.json_schema.schema")
    return Constraint("json_schema", compact(asked.json_schema.schema))
