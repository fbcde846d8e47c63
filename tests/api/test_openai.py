"""OpenAI's interface, asked by OpenAI's own client and by clients that are worse."""

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest

from agent.engines.base import EngineOptions
from agent.engines.genai import GenAiSession
from agent.engines.generation import (
    ChatMessage,
    Finish,
    GenerationRequest,
    Piece,
    Sampling,
    TextSession,
)
from agent.errors import OverMemory, TooSlow, WorkerDied
from tests.fakes.engine import FakeManifest, FakeModel, FakeModels, echo
from tests.support import tiny_language
from tests.support.served import ECHO, Serve, Served
from tests.support.wire import Wire

HELLO: list[Any] = [{"role": "user", "content": "Hello"}]
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def session() -> Iterator[GenAiSession]:
    made = GenAiSession(b"", EngineOptions(1, tiny_language.files()))
    yield made
    made.close()


def language(session: TextSession, name: str = "tiny") -> FakeModel:
    manifest = FakeManifest(session.inputs, session.outputs, "text-generation", "genai")
    return FakeModel(session, name, manifest=manifest)


async def asked(served: Served, ask: "Callable[[openai.OpenAI], Any]") -> Any:
    """What OpenAI's client gives, called in a thread as a program would."""

    def call() -> Any:
        transport = httpx2.HTTPTransport(uds=str(served.path))
        with httpx2.Client(transport=transport) as http:
            return ask(
                openai.OpenAI(
                    api_key="none", base_url="http://agent/v1", http_client=http, max_retries=0
                )
            )

    return await asyncio.to_thread(call)


async def refused(served: Served, ask: "Callable[[openai.OpenAI], Any]") -> openai.APIStatusError:
    with pytest.raises(openai.APIStatusError) as caught:
        await asked(served, ask)
    return caught.value


def chat(client: openai.OpenAI, **changes: Any) -> Any:
    fields = {"model": "tiny", "messages": HELLO, "max_tokens": 12, "seed": 1, **changes}
    return client.chat.completions.create(**fields)


async def test_models_are_listed(serve: Serve, session: GenAiSession) -> None:
    async with serve(FakeModels(language(session), echo(ECHO))) as served:
        found = await asked(served, lambda c: [m.id for m in c.models.list()])
        assert found == ["echo", "tiny"]
        assert (await asked(served, lambda c: c.models.retrieve("tiny"))).id == "tiny"
        error = await refused(served, lambda c: c.models.retrieve("none"))
        assert (error.status_code, error.code) == (404, "model_not_found")


async def test_a_chat_is_what_the_engine_writes(serve: Serve, session: GenAiSession) -> None:
    request = GenerationRequest(
        (ChatMessage("user", "Hello"),), max_tokens=12, sampling=Sampling(seed=1)
    )
    parts = list(session.generate(request))
    text = "".join(p.text for p in parts if isinstance(p, Piece))
    async with serve(FakeModels(language(session))) as served:
        answer = await asked(served, chat)
        assert answer.choices[0].message.content == text
        assert answer.choices[0].finish_reason == "length"
        assert answer.usage.completion_tokens == 12
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12

        def streamed(client: openai.OpenAI) -> list[Any]:
            return list(chat(client, stream=True, stream_options={"include_usage": True}))

        chunks = await asked(served, streamed)
        assert "".join(c.choices[0].delta.content or "" for c in chunks[:-1]) == text
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-2].choices[0].finish_reason == "length"
        assert chunks[-1].usage.completion_tokens == 12
        assert chunks[-1].usage.prompt_tokens_details.cached_tokens > 0
        assert len({c.id for c in chunks}) == 1


async def test_probabilities(serve: Serve, session: GenAiSession) -> None:
    async with serve(FakeModels(language(session))) as served:
        answer = await asked(served, lambda c: chat(c, logprobs=True, top_logprobs=3))
        content = answer.choices[0].logprobs.content
        assert len(content) == 12
        assert all(len(token.top_logprobs) == 3 for token in content)
        text = await asked(
            served,
            lambda c: c.completions.create(
                model="tiny", prompt="abc", max_tokens=4, logprobs=2, seed=1
            ),
        )
        assert len(text.choices[0].logprobs.tokens) == 4
        assert text.choices[0].logprobs.text_offset[0] == 0


async def test_parts_of_characters_come_with_their_own_bytes(
    serve: Serve, session: GenAiSession
) -> None:
    """Not with those of the sign that shows in their place."""
    async with serve(FakeModels(language(session))) as served:
        answer = await asked(served, lambda c: chat(c, logprobs=True, top_logprobs=20))
    found = [top for token in answer.choices[0].logprobs.content for top in token.top_logprobs]
    parts = [token for token in found if token.token == "\ufffd"]
    assert parts
    assert all(bytes(token.bytes) != "\ufffd".encode() for token in parts)
    assert all(bytes(t.bytes) == t.token.encode() for t in found if "\ufffd" not in t.token)


async def test_a_completion_goes_on_with_the_text_itself(
    serve: Serve, session: GenAiSession
) -> None:
    async with serve(FakeModels(language(session))) as served:

        def complete(client: openai.OpenAI, **fields: Any) -> Any:
            return client.completions.create(model="tiny", prompt="abc", seed=2, **fields)

        whole = await asked(served, complete)
        assert whole.usage.prompt_tokens == 3
        assert whole.usage.completion_tokens == 16  # OpenAI's default
        chunks = await asked(served, lambda c: list(complete(c, stream=True)))
        assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text


async def test_answers_in_a_form(serve: Serve, session: GenAiSession) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    async with serve(FakeModels(language(session))) as served:
        for temperature in (0.0, 0.3):
            answer = await asked(
                served,
                lambda c, t=temperature: chat(
                    c, response_format=form, temperature=t, max_tokens=60
                ),
            )
            assert answer.choices[0].finish_reason == "stop"
            assert answer.choices[0].message.content in ('{"ok":true}', '{"ok":false}')
        pattern = {"type": "regex", "pattern": "[0-9]{4}"}
        answer = await asked(served, lambda c: chat(c, extra_body={"response_format": pattern}))
        assert answer.choices[0].message.content.isdigit()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_is_called_with_arguments_that_fit(
    serve: Serve, session: GenAiSession, stream: bool
) -> None:
    named = {"type": "function", "function": {"name": "weather"}}
    fields = {"tools": [WEATHER], "tool_choice": named, "temperature": 0.1, "max_tokens": 100}
    async with serve(FakeModels(language(session))) as served:
        answer = await asked(
            served, lambda c: (list if stream else lambda x: x)(chat(c, stream=stream, **fields))
        )
        if stream:
            call = next(
                c.choices[0].delta.tool_calls for c in answer if c.choices[0].delta.tool_calls
            )
            assert answer[-1].choices[0].finish_reason == "tool_calls"
        else:
            call = answer.choices[0].message.tool_calls
            assert answer.choices[0].finish_reason == "tool_calls"
        assert call[0].function.name == "weather"
        assert json.loads(call[0].function.arguments)["city"] in ("Rome", "Oslo")


async def test_a_conversation_goes_on_after_a_tools_result(
    serve: Serve, session: GenAiSession
) -> None:
    """Turns as the client's own examples write them, and what the model reads of them."""
    function = {"name": "weather", "arguments": '{"city": "Rome"}'}
    turns: list[Any] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": [{"type": "text", "text": "And "}, {"type": "text", "text": "now?"}]},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": "21 degrees"},
    ]  # fmt: skip
    read = (
        ChatMessage("system", "Be brief."),
        ChatMessage("user", "And now?"),
        ChatMessage("assistant", '{"name":"weather","arguments":{"city": "Rome"}}'),
        ChatMessage("tool", '{"name":"weather","result":"21 degrees"}'),
    )
    request = GenerationRequest(read, max_tokens=12, sampling=Sampling(seed=1))
    text = "".join(p.text for p in session.generate(request) if isinstance(p, Piece))
    async with serve(FakeModels(language(session))) as served:
        fields = {"messages": turns, "tools": [WEATHER], "tool_choice": "none"}
        answer = await asked(served, lambda c: chat(c, **fields))
        assert answer.choices[0].message.content == text


# What is refused.


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"n": 2}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logit_bias": {"1": 5}}, "logit_bias"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"response_format": {"type": "regex", "pattern": "((("}}, "regex"),
        ({"tools": [WEATHER], "response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
    ],
)  # fmt: skip
async def test_a_field_that_is_wrong_is_named(
    serve: Serve, session: GenAiSession, changes: dict[str, Any], param: str
) -> None:
    async with serve(FakeModels(language(session))) as served:
        error = await refused(served, lambda c: chat(c, extra_body=changes))
        assert (error.status_code, error.param) == (400, param)
        assert error.type == "invalid_request_error"


async def test_errors_are_in_openais_form(serve: Serve, session: GenAiSession) -> None:
    async with serve(FakeModels(language(session), echo(ECHO))) as served:
        missing = await refused(served, lambda c: chat(c, model="none"))
        assert (missing.status_code, missing.code) == (404, "model_not_found")
        other = await refused(served, lambda c: chat(c, model="echo"))
        assert (other.status_code, other.param) == (400, "model")
        long = [{"role": "user", "content": "x" * 600}]
        for stream in (False, True):
            error = await refused(served, lambda c, s=stream: chat(c, messages=long, stream=s))
            assert (error.status_code, error.code) == (400, "context_length_exceeded")
        trimmed = await asked(
            served,
            lambda c: chat(c, messages=[*HELLO * 30, *HELLO], extra_body={"truncation": "auto"}),
        )
        assert trimmed.usage.completion_tokens == 12
        huge = [{"role": "user", "content": "x" * 9_000_000}]
        error = await refused(served, lambda c: chat(c, messages=huge))
        assert (error.status_code, error.code) == (413, "limit.size")
        assert error.type == "invalid_request_error"


async def test_a_body_refused_before_it_is_read_has_openais_form_too(serve: Serve) -> None:
    """By its declared length alone; a path of the agent has the agent's own form."""
    head = b"POST %b HTTP/1.1\r\nHost: agent\r\nContent-Length: 99999999\r\n\r\n"
    async with serve() as served:
        for path, nested in ((b"/v1/embeddings", True), (b"/api/classify", False)):
            wire = await served.connect()
            await wire.send(head % path)
            reply = await wire.reply()
            assert reply.status == 413
            told = reply.json()["error"] if nested else reply.json()
            assert told["code"] == "limit.size"


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\xc3\x28"}]}',
        b'{"model": "tiny", "messages": [{"role": "user", "content": "\\ud800"}]}',
        b"[" * 100_000,
        b"null",
        b"",
    ],
    ids=["noise", "invalid UTF-8", "half a surrogate pair", "deep", "null", "empty"],
)
async def test_a_body_that_is_no_request_is_refused(
    serve: Serve, session: GenAiSession, body: bytes
) -> None:
    async with serve(FakeModels(language(session))) as served:
        wire = await served.connect()
        answer = await wire.call("POST", "/v1/chat/completions", body)
        assert answer.status == 400, answer
        assert json.loads(answer.body)["error"]["type"] == "invalid_request_error"
        assert (await asked(served, chat)).usage.completion_tokens == 12


# Clients that go, and models that fail.


class Scripted(TextSession):
    """Writes what it is told to, and notices when nobody wants it."""

    def __init__(
        self, pieces: int, failure: Exception | None = None, *, text: str = "word "
    ) -> None:
        super().__init__([], [])
        self.window = 100
        self.written = 0
        self.cancelled = False
        self._pieces, self._failure, self._text = pieces, failure, text

    def generate(self, request: GenerationRequest, cancelled: Any = None) -> Any:
        try:
            for _ in range(self._pieces):
                self.written += 1
                yield Piece(self._text)
        finally:
            self.cancelled = cancelled()
        if self._failure is not None:
            raise self._failure
        yield Finish("stop", 3, 0, self._pieces)

    def _run(self, arrays: Any) -> Any:
        raise AssertionError("it only writes")

    def _close(self) -> None:
        pass


async def until(true: Callable[[], bool]) -> None:
    for _ in range(2000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come")


async def raw_stream(wire: Wire, name: str = "tiny") -> None:
    body = json.dumps({"model": name, "messages": HELLO, "stream": True}).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(
        body
    )
    await wire.send(head + body)


async def test_a_model_that_dies_ends_the_stream_with_an_error(serve: Serve) -> None:
    failing = Scripted(3, WorkerDied("the model's process was ended by SIGKILL"))
    async with serve(FakeModels(language(failing))) as served:
        texts: list[str] = []

        def stream(client: openai.OpenAI) -> None:
            chunks = chat(client, stream=True)
            texts.extend(chunk.choices[0].delta.content or "" for chunk in chunks)

        with pytest.raises(openai.APIError, match="SIGKILL"):
            await asked(served, stream)
        assert "".join(texts) == "word " * 3
        error = await refused(served, chat)
        assert error.status_code == 503
        assert served.service.writers.producers.running == 0


async def test_a_client_that_goes_away_stops_the_model(serve: Serve) -> None:
    endless = Scripted(10**9)
    async with serve(FakeModels(language(endless))) as served:
        wire = await served.connect()
        await raw_stream(wire)
        await until(lambda: endless.written > 5)
        wire.close()
        await until(lambda: endless.cancelled)
        await until(lambda: served.service.writers.producers.running == 0)


async def test_a_client_that_does_not_wait_for_a_whole_answer_stops_the_model(
    serve: Serve,
) -> None:
    endless = Scripted(10**9)
    async with serve(FakeModels(language(endless))) as served:
        wire = await served.connect()
        body = json.dumps({"model": "tiny", "messages": HELLO}).encode()
        await wire.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(body), body)
        )
        await until(lambda: endless.written > 5)
        wire.close()
        await until(lambda: endless.cancelled)


async def test_a_client_that_stops_reading_costs_a_bounded_amount_and_is_cut_off(
    serve: Serve,
) -> None:
    endless = Scripted(10**9, text="x" * 1000)
    async with serve(FakeModels(language(endless)), write_timeout_s=0.5) as served:
        wire = await served.connect()
        await raw_stream(wire)
        await until(lambda: endless.cancelled)
        assert endless.written < 5000  # some hundred parts, and what the socket holds


async def test_too_many_answers_at_once_are_refused(serve: Serve) -> None:
    endless = Scripted(10**9)
    async with serve(FakeModels(language(endless))) as served:
        wires = [await served.connect() for _ in range(16)]
        for wire in wires:
            await raw_stream(wire)
        await until(lambda: served.service.writers.producers.running == 16)
        error = await refused(served, chat)
        assert (error.status_code, error.type) == (429, "rate_limit_error")
        assert error.response.headers["retry-after"]


async def test_tokens_are_counted(serve: Serve, session: GenAiSession) -> None:
    async with serve(FakeModels(language(session))) as served:
        answer = await asked(served, chat)
        text = (await served.call("GET", "/metrics")).body.decode()
        assert 'edge_agent_generation_tokens_total{model="tiny",kind="answer"} 12' in text
        prompt = answer.usage.prompt_tokens
        assert f'edge_agent_generation_tokens_total{{model="tiny",kind="prompt"}} {prompt}' in text


async def test_any_failure_on_the_way_ends_the_stream_with_an_error(serve: Serve) -> None:
    """Also one that nobody foresaw, whose details stay in the log."""
    broken = Scripted(3, ZeroDivisionError("secret"))
    async with serve(FakeModels(language(broken))) as served:
        with pytest.raises(openai.APIError, match="the log says why"):
            await asked(served, lambda c: list(chat(c, stream=True)))
        error = await refused(served, chat)  # whole
        assert (error.status_code, error.type, error.param) == (500, "server_error", None)
        assert "the log says why" in error.message


async def test_paths_that_are_not_there_answer_in_openais_form(serve: Serve) -> None:
    async with serve() as served:
        for method, path, status in (
            ("POST", "/v1/responses", 404),
            ("GET", "/v1", 404),
            ("GET", "/v1/chat/completions", 405),
            ("POST", "/v1/models/x/y", 404),
        ):
            reply = await served.call(method, path, b"{}" if method == "POST" else b"")
            told = reply.json()["error"]
            assert (reply.status, told["type"]) == (status, "invalid_request_error")
            assert (told["param"], told["code"]) == (None, "request.not_found")
            assert path in told["message"]
        native = await served.call("GET", "/api/nothing")
        assert (native.status, native.json()["code"]) == (404, "request.not_found")


async def test_every_failure_of_ours_is_a_server_error(serve: Serve) -> None:
    for problem in (OverMemory("it does not fit"), WorkerDied("it died"), TooSlow("late")):
        async with serve(FakeModels(language(Scripted(0, problem)))) as served:
            error = await refused(served, chat)
            assert error.status_code >= 500
            assert error.type == "server_error"
