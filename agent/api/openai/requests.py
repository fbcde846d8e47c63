"""What OpenAI's clients ask for, as a request of the engines. Pure."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.api.openai.messages import Message, conversation, with_instructions
from agent.engines.generation import (
    MAX_MESSAGES,
    MAX_STOPS,
    MAX_TOP,
    Constraint,
    GenerationRequest,
    Sampling,
)
from agent.errors import BadPayload
from agent.tasks.generation.schemas import compact, fitted, measured
from agent.tasks.generation.tools import MAX_TOOLS, Tool, ToolName, instructions, schema

COMPLETION_TOKENS = 16  # of an answer to a text, unless the request says more, as OpenAI's

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

    include_usage: bool | None = None


class JsonSchema(Struct):
    """A schema with a name, which is of no use here."""

    name: str | None = None
    schema: dict[str, Any] | None = None


class ResponseFormat(Struct):
    """What the answer must be; the type regex, with its pattern, is not OpenAI's."""

    type: Literal["text", "json_object", "json_schema", "regex"]
    json_schema: JsonSchema | None = None
    pattern: str | None = None


class Common(Struct):
    """Fields that chats and completions have in common; unknown ones are ignored, as OpenAI does.

    A field that is null is as one that is not there: many clients send all that they know. The last two
    are as other servers have them, not OpenAI.
    """

    model: str
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(gt=0, le=1)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    seed: int | None = None
    stop: Stop = None
    n: int | None = None
    logit_bias: dict[str, Any] | None = None
    response_format: ResponseFormat | None = None
    truncation: Literal["auto", "disabled"] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    repetition_penalty: Annotated[float, Meta(ge=0.01, le=100)] | None = None

    def refuse(self) -> None:
        """Refuse what is asked for and not supported, so that nobody takes another answer for it."""
        if self.n not in {None, 1}:
            raise BadPayload("only 1 is supported; ask again for another answer", where="n")
        if self.logit_bias:
            raise BadPayload("is not supported; leave it out", where="logit_bias")

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self) -> Sampling:
        """How tokens are chosen."""
        return Sampling(
            temperature=1.0 if self.temperature is None else self.temperature,
            top_p=self.top_p or 1.0,
            top_k=self.top_k or 0,
            repetition_penalty=self.repetition_penalty or 1.0,
            frequency_penalty=self.frequency_penalty or 0.0,
            presence_penalty=self.presence_penalty or 0.0,
            seed=None if self.seed is None else self.seed % 2**63,
        )

    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())


class FunctionItem(Struct):
    """A function that may be called, as it is sent."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None


class ToolItem(Struct):
    """A tool as it is sent."""

    type: Literal["function"]
    function: FunctionItem


class FunctionName(Struct):
    """Which function."""

    name: str


class NamedTool(Struct):
    """A tool that must be called."""

    type: Literal["function"]
    function: FunctionName


class ChatRequest(Common, kw_only=True):
    """A conversation that is to be answered.

    Not of OpenAI's chats is truncation: "auto" leaves the oldest messages out of a conversation that is too
    long, "disabled" refuses it, and without either the model's manifest says which.
    """

    messages: Annotated[list[Message], Meta(min_length=1, max_length=MAX_MESSAGES)]
    max_completion_tokens: Tokens | None = None
    tools: Annotated[list[ToolItem], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    functions: list[Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP)] | None = None

    def calls_tools(self) -> bool:
        """Whether the answer is a call, or may be one."""
        return bool(self.tools) and self.tool_choice != "none"

    def refuse(self) -> None:
        """See `Common.refuse`."""
        super().refuse()
        if self.functions:
            raise BadPayload("is not supported any more; send tools", where="functions")
        if not self.tools and self.tool_choice not in (None, "none", "auto"):
            raise BadPayload("is allowed only where there are tools", where="tool_choice")

    def generation(self) -> GenerationRequest:
        """The request of the engines. Raises BadPayload."""
        self.refuse()
        messages = conversation(self.messages)
        constraint = _constraint(self.response_format)
        if self.calls_tools():
            if constraint is not None:
                raise BadPayload("does not go together with tools", where="response_format")
            tools, may_reply = self._tools()
            messages = with_instructions(messages, instructions(tools, may_reply=may_reply))
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
        tools, parts = [], 0
        for number, item in enumerate(self.tools or ()):
            function = item.function
            where = f"tools[{number}].function.parameters"
            parts = measured(function.parameters, where, parts)
            tools.append(Tool(function.name, function.description or "", function.parameters))
        choice = self.tool_choice
        if not isinstance(choice, NamedTool):
            return tools, choice != "required"
        tools = [tool for tool in tools if tool.name == choice.function.name]
        if not tools:
            raise BadPayload("there is no such function among the tools", where="tool_choice")
        return tools, False


class CompletionRequest(Common, kw_only=True):
    """A text that is to be continued; a list holds one."""

    prompt: str | list[str | int | list[int]]
    logprobs: Annotated[int, Meta(ge=0, le=MAX_TOP)] | None = None
    echo: bool | None = None
    best_of: int | None = None
    suffix: str | None = None

    def refuse(self) -> None:
        """See `Common.refuse`."""
        super().refuse()
        if self.best_of not in {None, 1}:
            raise BadPayload("only 1 is supported", where="best_of")
        if self.truncation == "auto":
            raise BadPayload("a text has no oldest message to leave out", where="truncation")
        for name in ("echo", "suffix"):
            if getattr(self, name):
                raise BadPayload("is not supported; leave it out", where=name)

    def generation(self) -> GenerationRequest:
        """The request of the engines. Raises BadPayload."""
        self.refuse()
        return GenerationRequest(
            text=self._text(),
            max_tokens=self.max_tokens or COMPLETION_TOKENS,
            stop=self.stops(),
            sampling=self.sampling(),
            constraint=_constraint(self.response_format),
            top=self.logprobs,
        )

    def _text(self) -> str:
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not all(isinstance(text, str) for text in given):
            raise BadPayload("token ids are not understood; send text", where="prompt")
        if len(given) != 1:
            message = f"there are {len(given)}; send one prompt in each request"
            raise BadPayload(message, where="prompt")
        return str(given[0])


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
    sent = asked.json_schema.schema
    measured(sent, "response_format.json_schema.schema")
    return Constraint("json_schema", compact(fitted(sent)))
