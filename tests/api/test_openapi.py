"""The OpenAPI document: complete, valid, and true of what is served."""

from typing import Any

import jsonschema_rs
import pytest

from agent.api.http.messages import Route
from agent.api.routes import routes
from tests.fakes.pipelines import FakeLink, FakeOutbox, FakePipelines
from tests.support.served import Serve, Served

METHODS = {"get", "post"}
PARTS = {"pipelines": FakePipelines, "outbox": FakeOutbox, "link": FakeLink}

#: A body for each operation that wants one.
BODIES = {
    "infer": b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}',
    "register": b'{"key":"none","byte_size":4}',
    "readings": b'{"stream":"a","time":0,"flow":1}',
    "index": b"{}",
}


async def fetched(api: Served) -> dict[str, Any]:
    reply = await api.call("GET", "/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    document: dict[str, Any] = reply.json()
    return document


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, told)
        for path, item in document["paths"].items()
        for method, told in item.items()
    ]


def table(api: Served) -> list[Route]:
    return routes(api.service, api.settings)


def concrete(path: str) -> str:
    return path.format(model="echo", version="1.0.0", region="none")


async def test_every_route_is_in_it_and_nothing_else(serve: Serve) -> None:
    async with serve() as api:
        told = {(method, path) for method, path, _ in operations(await fetched(api))}
        assert told == {(route.method.lower(), route.pattern) for route in table(api)}


async def test_every_route_says_what_it_does(serve: Serve) -> None:
    async with serve() as api:
        for route in table(api):
            told = route.operation
            assert told.summary, f"{route.method} {route.pattern} has no Operation"
            assert told.answer is not None or told.answer_media, route.pattern
            assert route.method != "POST" or route.max_body == 0 or told.body is not None or (
                told.body_media
            ), route.pattern  # fmt: skip


async def test_every_documented_operation_answers(serve: Serve) -> None:
    """None is a path that is not there, and what comes is of a documented media type."""
    async with serve(parts={name: make() for name, make in PARTS.items()}) as api:
        for method, path, told in operations(await fetched(api)):
            if path.startswith("/v1/") or path == "/api/classify":
                continue  # needs models of its own; tested with them
            wire = await api.connect()
            body = BODIES.get(path.rpartition("/")[2], b"") if "requestBody" in told else b""
            streamed = "text/event-stream" in str(told["responses"]["200"])
            verb = "HEAD" if streamed else method.upper()
            reply = await wire.call(verb, concrete(path), body)
            answered = reply.headers["content-type"].partition(";")[0]
            missing = path.startswith("/v2/systemsharedmemory/region/")  # none is registered
            assert reply.status == 200 or (missing and reply.status == 404), (path, reply.body)
            assert missing or answered in told["responses"]["200"]["content"], path


async def test_names_of_operations_are_unique(serve: Serve) -> None:
    async with serve() as api:
        names = [told["operationId"] for _, _, told in operations(await fetched(api))]
        assert len(names) == len(set(names))


async def test_every_schema_is_valid_and_every_reference_leads_somewhere(serve: Serve) -> None:
    async with serve() as api:
        document = await fetched(api)
    for name, schema in document["components"]["schemas"].items():
        jsonschema_rs.meta.validate(schema)
        jsonschema_rs.Draft202012Validator(
            {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        )
    for reference in references(document):
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]


def references(value: Any) -> list[str]:
    if isinstance(value, list):
        return [found for item in value for found in references(item)]
    if not isinstance(value, dict):
        return []
    here = [value["$ref"]] if "$ref" in value else []
    return here + [found for item in value.values() for found in references(item)]


@pytest.mark.parametrize("path", ["/api/status", "/v2/models/echo", "/v2/models/stats", "/v2"])
async def test_answers_fit_their_schemas(serve: Serve, path: str) -> None:
    async with serve(parts={name: make() for name, make in PARTS.items()}) as api:
        document = await fetched(api)
        pattern = path.replace("echo", "{model}")
        content = document["paths"][pattern]["get"]["responses"]["200"]["content"]
        schema = content["application/json"]["schema"]
        answer = (await api.call("GET", path)).json()
    schema_with_parts = {**schema, "components": document["components"]}
    jsonschema_rs.Draft202012Validator(schema_with_parts).validate(answer)
