"""The OpenAPI 3.1 document of the local API, made from the table of routes and the message types.

Each route brings its own `Operation`; types become JSON Schemas by msgspec, which also decodes and
encodes them. Nothing here is a copy that could grow old. Pure.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from agent import __version__
from agent.api.answers import Error
from agent.api.callers import Role
from agent.api.http.messages import Answer, Operation, Request, Response, Route, json_body

MEDIA = "application/json"

#: The first part of a path -> what stands behind it.
_TAGS = {
    "v2": ("Open Inference Protocol", "Models by the standard of KServe and Triton, version 2"),
    "v1": ("OpenAI", "Language, embeddings and speech, as OpenAI's clients ask for them"),
    "api": ("Agent", "What has no standard"),
    "": ("Agent", "What has no standard"),
}
_REF = "#/components/schemas/{name}"


class Document:
    """Describes a table of routes, itself included.

    Attributes:
        route: where the document is served.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        told = Operation("This document", answer=dict[str, Any])
        self.route = Route("GET", "/openapi.json", self._answer, max_body=0, operation=told)
        self._routes = [*routes, self.route]
        self._text = b""

    def _answer(self, _: Request) -> Answer:
        self._text = self._text or json_body(document(self._routes))
        return Response([self._text])


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The document as plain values."""
    types = _Types(routes)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.pattern, {})[route.method.lower()] = _operation(route, types)
    tags = dict(_TAGS[_group(route)] for route in routes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge-agent",
            "version": __version__,
            "summary": "Models, readings and events of one device, over its local socket",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
        "security": [{}, {"token": []}],
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": types.components,
            "responses": {"Error": {"description": "Refused", "content": types.content(Error)}},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Over TCP; on the Unix socket the kernel says who calls",
                }
            },
        },
    }


class _Types:
    """JSON Schemas of the types that routes speak of.

    Attributes:
        components: schemas by name.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        bodies = [r.operation.body for r in routes if r.operation.body is not None]
        answers = [r.operation.answer for r in routes if r.operation.answer is not None]
        answers += [r.operation.error for r in routes if r.operation.error is not None]
        taken, known = _schemas(bodies)
        given, more = _schemas([Error, *answers])
        self.components = dict(sorted({**_sent(more), **_standard(known)}.items()))
        self._schemas = {
            **{repr(kind): _sent(schema) for kind, schema in given},
            **{repr(kind): _standard(schema) for kind, schema in taken},
        }

    def content(self, kind: Any, *media: str) -> dict[str, Any]:
        """What a body may be: JSON of a type, or bytes of other media types."""
        schemas = {} if kind is None else {MEDIA: {"schema": self._schemas[repr(kind)]}}
        return {**schemas, **{name: {} for name in media}}


def _schemas(kinds: Sequence[Any]) -> tuple[list[tuple[Any, dict[str, Any]]], dict[str, Any]]:
    schemas, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    return list(zip(kinds, schemas, strict=True)), components


def _standard(schema: Any) -> Any:
    """The schema with Python's end of a text, which JSON Schema's patterns do not have, as theirs."""
    if isinstance(schema, list):
        return [_standard(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _standard(value) for key, value in schema.items()}
    pattern = found.get("pattern")
    return {**found, "pattern": pattern.replace(r"\Z", "$")} if isinstance(pattern, str) else found


def _sent(schema: Any) -> Any:
    """The schema of what is sent: a number that is not known is null."""
    if isinstance(schema, list):
        return [_sent(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: _sent(value) for key, value in schema.items()}
    return {**found, "type": ["number", "null"]} if found.get("type") == "number" else found


def _operation(route: Route, types: _Types) -> dict[str, Any]:
    told = route.operation
    described: dict[str, Any] = {
        "operationId": _identifier(route),
        "summary": told.summary,
        "tags": [_TAGS[_group(route)][0]],
        "x-role": route.role.name.lower(),
        "responses": _responses(told, types),
    }
    if route.role is not Role.VIEWER:
        described["description"] = f"Needs the role {route.role.name.lower()}."
    if parameters := list(_parameters(route)):
        described["parameters"] = parameters
    if told.body is not None or told.body_media:
        content = types.content(told.body, *told.body_media)
        described["requestBody"] = {"required": told.body_required, "content": content}
    return described


def _responses(told: Operation, types: _Types) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": told.summary or "Done"}
    if told.answer is not None or told.answer_media:
        answer["content"] = types.content(told.answer, *told.answer_media)
    statuses = {str(status): answer for status in (200, *told.also)}
    error: dict[str, Any] = {"$ref": "#/components/responses/Error"}
    if told.error is not None:
        error = {"description": "Refused", "content": types.content(told.error)}
    return {**statuses, "default": error}


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    for name in route.arguments:
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    for place, found in (("query", route.operation.query), ("header", route.operation.headers)):
        for name, text in found.items():
            yield {"name": name, "in": place, "description": text, "schema": {"type": "string"}}


def _group(route: Route) -> str:
    first = route.parts[0]
    return first if first in _TAGS else ""


def _identifier(route: Route) -> str:
    words = [part.strip("{}") for part in route.parts if part] or ["page"]
    return "_".join([route.method.lower(), *words]).replace(".", "_").replace("-", "_")
