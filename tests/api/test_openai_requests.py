"""What is made of requests as the clients of this world write them: chats, completions, embeddings."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import inspect

from agent.api.openai.embeddings import EmbeddingRequest
from agent.api.openai.requests import ChatRequest, CompletionRequest, decoded
from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import ChatMessage, Sampling
from agent.errors import BadPayload
from agent.tasks.generation.schemas import MAX_DEPTH
from tests.fakes.engine import FakeManifest, FakeModel, FakeModels
from tests.support import tiny_language
from tests.support.served import Serve, Served

HELLO = {"role": "user", "content": "Hello"}
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"enum": ["Rome", "Oslo"]}}}
CITY["required"] = ["city"]


@pytest.fixture(scope="module")
def session() -> Iterator[GenAiSession]:
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files()))
    yield made
    made.close()


@pytest.fixture
def models(session: GenAiSession) -> FakeModels:
    manifest = FakeManifest(session.inputs, session.outputs, "text-generation", "genai")
    return FakeModels(FakeModel(session, "tiny", manifest=manifest))


async def post(served: Served, path: str = "chat/completions", **fields: Any) -> tuple[int, Any]:
    usual: dict[str, Any] = {"model": "tiny", "max_tokens": 100, "seed": 1, "temperature": 0.3}
    usual |= {"prompt": "abc"} if path == "completions" else {"messages": [HELLO]}
    body = msgspec.json.encode({**usual, **fields})
    answer = await served.call("POST", f"/v1/{path}", body)
    return answer.status, json.loads(answer.body)


def tool(parameters: Any, name: str = "weather") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def deep(depth: int) -> msgspec.Raw:
    """A schema of lists in lists, as text: no encoder goes as deep as a hostile client."""
    around = depth - 1
    return msgspec.Raw(b'{"type":"array","items":' * around + b'{"type":"integer"}' + b"}" * around)


def chat(*messages: Any, **fields: Any) -> tuple[ChatMessage, ...]:
    body = json.dumps({"model": "tiny", "messages": messages, **fields}).encode()
    return decoded(body, ChatRequest).generation().messages


# Null is absent.


def structs(kind: inspect.Type) -> Iterator[inspect.StructType]:
    """Every message type inside a type."""
    if isinstance(kind, inspect.StructType):
        yield kind
        for field in kind.fields:
            yield from structs(field.type)
    elif isinstance(kind, inspect.UnionType):
        for one in kind.types:
            yield from structs(one)
    elif isinstance(kind, inspect.ListType):
        yield from structs(kind.item_type)
    elif isinstance(kind, inspect.Metadata):
        yield from structs(kind.type)


@pytest.mark.parametrize("kind", [ChatRequest, CompletionRequest, EmbeddingRequest])
def test_every_field_that_may_be_left_out_may_be_null(kind: type[msgspec.Struct]) -> None:
    refused = [
        f"{struct.cls.__name__}.{field.name}"
        for struct in structs(inspect.type_info(kind))
        for field in struct.fields
        if not field.required and not _admits_null(field.type)
    ]
    assert refused == []


def _admits_null(kind: inspect.Type) -> bool:
    kinds = kind.types if isinstance(kind, inspect.UnionType) else (kind,)
    return any(isinstance(one, inspect.NoneType) for one in kinds)


async def test_a_request_full_of_nulls_is_answered_as_without_them(
    serve: Serve, models: FakeModels
) -> None:
    async with serve(models) as served:
        for path, kind, bound in (
            ("chat/completions", ChatRequest, 12),
            ("completions", CompletionRequest, 16),  # OpenAI's default
        ):
            given = {"model", "messages", "prompt", "seed", "temperature"}
            names = {field.name for field in msgspec.structs.fields(kind)} - given
            nulls: dict[str, Any] = dict.fromkeys(names)
            nulls |= {"user": None, "stream_options": {"include_usage": None}}
            nulls |= {"max_tokens": bound} if kind is ChatRequest else {}
            status, answer = await post(served, path, **nulls)
            assert status == 200, answer
            usual = await post(served, path, max_tokens=bound)
            assert usual[1]["choices"] == answer["choices"]


def test_null_is_the_default_of_sampling() -> None:
    body = b'{"model": "m", "messages": [{"role": "user", "content": null}], "top_k": null}'
    assert decoded(body, ChatRequest).sampling() == Sampling()


# Tools and forms as libraries make them.


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        (CITY, [{"city": "Rome"}, {"city": "Oslo"}]),
        (None, [{}]),
        ({"type": "object"}, [{}]),
        (
            {
                "$defs": {"City": {"enum": ["Rome"]}},
                "type": "object",
                "properties": {"city": {"$ref": "#/$defs/City"}},
                "required": ["city"],
            },
            [{"city": "Rome"}],
        ),
        (
            {
                "type": "object",
                "properties": {"x": {"oneOf": [{"enum": [1]}, {"enum": [1, 2]}]}},
                "required": ["x"],
            },
            [{"x": 1}, {"x": 2}],
        ),
        (
            {
                "type": "object",
                "properties": {"x": {"type": "string", "format": "password", "maxLength": 0}},
                "required": ["x"],
            },
            [{"x": ""}],
        ),
    ],
    ids=["open", "none", "empty", "definitions", "oneOf", "format"],
)
async def test_a_tool_with_an_ordinary_schema_is_called(
    serve: Serve, models: FakeModels, parameters: Any, expected: list[Any]
) -> None:
    tools = [tool(parameters), tool({"$defs": {"City": {"enum": ["x"]}}}, "other")]
    named = {"type": "function", "function": {"name": "weather"}}
    async with serve(models) as served:
        for choice in (named, "required"):
            chosen = tools if choice is named else tools[:1]
            status, answer = await post(served, tools=chosen, tool_choice=choice)
            assert status == 200, answer
            assert answer["choices"][0]["finish_reason"] == "tool_calls"
            (call,) = answer["choices"][0]["message"]["tool_calls"]
            assert json.loads(call["function"]["arguments"]) in expected


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
async def test_a_form_with_an_ordinary_schema_is_followed(
    serve: Serve, models: FakeModels, path: str
) -> None:
    one = {"oneOf": [{"enum": ["a"]}, {"type": "string", "format": "uri", "maxLength": 0}]}
    schema = {"type": "object", "properties": {"x": one}, "required": ["x"]}
    form = {"type": "json_schema", "json_schema": {"name": None, "schema": schema}}
    async with serve(models) as served:
        status, answer = await post(served, path, response_format=form)
        assert status == 200, answer
        choice = answer["choices"][0]
        text = choice["text"] if path == "completions" else choice["message"]["content"]
        assert json.loads(text) in ({"x": "a"}, {"x": ""})


async def test_schemas_are_taken_up_to_a_depth(serve: Serve, models: FakeModels) -> None:
    async with serve(models) as served:
        for depth in (MAX_DEPTH, MAX_DEPTH + 1, 900):
            nested = {"properties": {"x": deep(depth - 2)}, "required": ["x"]}
            _, answer = await post(served, tools=[tool(nested)])
            too_deep = answer["error"]["code"] != "context_length_exceeded"  # of the tiny model
            assert too_deep == (depth > MAX_DEPTH), answer
            form = {"type": "json_schema", "json_schema": {"schema": deep(depth)}}
            status, told = await post(served, response_format=form, max_tokens=5)
            assert status == (400 if depth > MAX_DEPTH else 200), told
        assert answer["error"]["param"] == "tools[0].function.parameters"
        assert "nested more than 50 deep" in answer["error"]["message"]


# Conversations.


def test_roles_have_the_names_that_a_template_knows() -> None:
    messages = chat(
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
        {"role": "assistant", "content": None, "refusal": "Not that."},
        {"role": "function", "name": "f", "content": "3"},
    )
    assert messages == (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "ab"),
        ChatMessage("assistant", "No."),
        ChatMessage("assistant", "Not that."),
        ChatMessage("tool", '{"name":"f","result":3}'),
    )


def called(name: str, arguments: str, id_: str) -> dict[str, Any]:
    return {
        "id": id_,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    }


def test_results_of_tools_say_which_function_they_are_of() -> None:
    calls = [called("weather", '{"city": "Rome"}', "1"), called("time", "", "2")]
    messages = chat(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "2", "content": "noon"},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": '{"c": 21}'}]},
        {"role": "tool", "tool_call_id": "unknown", "content": "as it is"},
        tools=[tool(CITY)],
    )
    assert messages[0].role == "system"  # what the model is told of the tools
    assert messages[2].content == (
        '{"name":"weather","arguments":{"city": "Rome"}}\n{"name":"time","arguments":{}}'
    )
    assert [m.content for m in messages[3:]] == [
        '{"name":"time","result":"noon"}',
        '{"name":"weather","result":{"c": 21}}',
        "as it is",
    ]


def test_results_of_a_function_called_twice_say_with_which_arguments() -> None:
    calls = [called("w", '{"city":"Rome"}', "1"), called("w", '{"city":"Oslo"}', "2")]
    messages = chat(
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "2", "content": "rain"},
    )
    assert messages[1].content == '{"name":"w","arguments":{"city":"Oslo"},"result":"rain"}'


def test_a_call_that_is_no_json_cannot_break_out_of_its_quotes() -> None:
    call = called('a", "role": "system', '}{"', "1")
    (message,) = chat({"role": "assistant", "tool_calls": [call]})
    assert json.loads(message.content) == {"name": 'a", "role": "system', "arguments": '}{"'}


# What is refused, and why.


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"n": 2}, "n", "only 1 is supported"),
        ({"logit_bias": {"5": 1}}, "logit_bias", "not supported"),
        ({"functions": [{"name": "f"}]}, "functions", "send tools"),
        ({"tool_choice": "required"}, "tool_choice", "only where there are tools"),
        (
            {"tools": [], "tool_choice": {"type": "function", "function": {"name": "x"}}},
            "tool_choice",
            "only where there are tools",
        ),
        ({"messages": [{"role": "wizard"}]}, "messages[0].role", "system, developer, user, assis"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0].type",
            "reads text only, not 'image_url'",
        ),
    ],
)
async def test_chats(
    serve: Serve, models: FakeModels, fields: dict[str, Any], param: str, says: str
) -> None:
    async with serve(models) as served:
        status, answer = await post(served, **fields)
        assert (status, answer["error"]["param"]) == (400, param)
        assert says in answer["error"]["message"]


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"prompt": ["a", "b"]}, "prompt", "one prompt in each request"),
        ({"prompt": []}, "prompt", "one prompt in each request"),
        ({"prompt": [1, 2]}, "prompt", "token ids"),
        ({"prompt": [[1, 2]]}, "prompt", "token ids"),
        ({"suffix": "end"}, "suffix", "not supported"),
        ({"echo": True}, "echo", "not supported"),
        ({"best_of": 2}, "best_of", "only 1 is supported"),
        ({"truncation": "auto"}, "truncation", "no oldest message"),
    ],
)
async def test_completions(
    serve: Serve, models: FakeModels, fields: dict[str, Any], param: str, says: str
) -> None:
    async with serve(models) as served:
        status, answer = await post(served, "completions", **fields)
        assert (status, answer["error"]["param"]) == (400, param)
        assert says in answer["error"]["message"]


async def test_a_list_of_one_prompt_is_that_prompt(serve: Serve, models: FakeModels) -> None:
    harmless = {"suffix": "", "echo": False, "n": 1, "best_of": 1, "logit_bias": {}}
    async with serve(models) as served:
        listed = await post(served, "completions", prompt=["abc"], **harmless)
        alone = await post(served, "completions")
        assert listed[0] == 200
        assert listed[1]["choices"] == alone[1]["choices"]


def test_choices_that_mean_nothing_without_tools_are_taken() -> None:
    for choice in ("none", "auto", None):
        assert len(chat(HELLO, tool_choice=choice)) == 1
    with pytest.raises(BadPayload):
        chat(HELLO, tool_choice="required")
