"""Schemas as programs send them, and what the grammar engine is given."""

from typing import Any

import pytest

from agent.errors import BadPayload
from agent.tasks.generation.schemas import (
    MAX_DEPTH,
    MAX_PARTS,
    fitted,
    fitted_arguments,
    measured,
)

CLOSED = {"additionalProperties": False}
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def test_an_object_that_lists_its_properties_has_no_others() -> None:
    assert fitted(CITY) == {**CITY, **CLOSED}
    nested = {"type": "array", "items": {"anyOf": [CITY, {"type": "null"}]}}
    assert fitted(nested)["items"]["anyOf"] == [{**CITY, **CLOSED}, {"type": "null"}]


@pytest.mark.parametrize(
    "schema",
    [
        {**CITY, "additionalProperties": True},
        {**CITY, "additionalProperties": {"type": "integer"}},
        {**CITY, "patternProperties": {"^x": {"type": "string"}}},
        {"type": "object"},
        {**CITY, "required": ["city", "country"]},
        {"allOf": [CITY, {"properties": {"country": {"type": "string"}}}]},
        {**CITY, "anyOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]},
        {"enum": [{"properties": {}}], "default": {"properties": {}}},
        {**CITY, "required": [{}]},
        {"properties": [], "items": 3, "anyOf": {}, "$ref": 7, "required": None},
    ],
)
def test_what_says_more_or_cannot_be_closed_stays_as_it_is(schema: dict[str, Any]) -> None:
    assert fitted(schema) == schema


def test_a_function_without_parameters_takes_none() -> None:
    empty = {"type": "object", "properties": {}, **CLOSED}
    for parameters in (None, {}, {"type": "object"}):
        assert fitted_arguments(parameters, root="#/$defs/a") == empty


def test_references_are_turned_to_where_the_schema_stands() -> None:
    schema = {
        "$id": "http://elsewhere/x",
        "$defs": {"A": {"enum": [1]}},
        "properties": {"a": {"$ref": "#/$defs/A"}, "again": {"$ref": "#"}, "$ref": {}},
    }
    turned = fitted(schema, root="#/$defs/arguments0")
    assert "$id" not in turned
    assert turned["properties"] == {
        "a": {"$ref": "#/$defs/arguments0/$defs/A"},
        "again": {"$ref": "#/$defs/arguments0"},
        "$ref": {},
    }


def test_formats_that_the_grammar_engine_does_not_know_are_left_out() -> None:
    schema = {
        "properties": {
            "format": {"type": "string", "format": "password"},
            "when": {"type": "string", "format": "date"},
            "odd": {"format": ["date"]},
        },
        **CLOSED,
    }
    assert fitted(schema)["properties"] == {
        "format": {"type": "string"},
        "when": {"type": "string", "format": "date"},
        "odd": {},
    }


def test_depth_is_bounded() -> None:
    value: Any = 1
    for _ in range(MAX_DEPTH):
        value = {"items": value}
    assert measured(value, "here") == MAX_DEPTH - 1
    with pytest.raises(BadPayload, match="nested more than 50 deep") as caught:
        measured([value], "here")
    assert caught.value.where == "here"


def test_the_number_of_parts_is_bounded_over_all_schemas_of_a_request() -> None:
    known = measured({"anyOf": [{}] * (MAX_PARTS - 2)}, "here")
    assert measured([{}], "here", known) == MAX_PARTS
    with pytest.raises(BadPayload, match="more than 20000 objects"):
        measured([{}, {}], "here", known)
