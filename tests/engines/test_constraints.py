"""A constraint is refused for what it asks for, not for its looks."""

import json
from typing import Any

import pytest

from agent.engines.constraints import (
    MAX_CHOICES,
    MAX_COUNTED,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_MULTIPLE,
    MAX_STATES,
    check_schema,
    rules,
    states,
)
from agent.engines.generation import Constraint, GenerationRequest, Sampling
from agent.errors import BadPayload


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("abc", 3),
        ("a{3}b", 4),
        ("(ab){10}", 20),
        ("((a{10}){10}){10}", 1000),
        ("(a|b){2,5}c", 16),
        (r"\d{4}-\d{2}", 7),
        ("a{2}b{3}c{4}", 9),
        ("(((", 0),
        (")){5}", 6),
    ],
)
def test_states_are_counted(pattern: str, expected: int) -> None:
    assert states(pattern) == expected


def test_an_expression_that_explodes_is_over_the_bound() -> None:
    assert states("((a{1000}){1000}){1000}") > MAX_STATES
    assert states("(" * 5000 + "a" + ")" * 5000 + "{9}") < MAX_STATES


def lists(depth: int) -> Any:
    """A schema of so many objects inside each other."""
    schema: dict[str, Any] = {}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def two(bound: int, name: str = "minItems") -> Any:
    """A schema whose two arrays count so many together."""
    half = bound // 2
    return {"properties": {"a": {name: half}, "b": {"items": {name: bound - half}}}}


@pytest.mark.parametrize(
    ("schema", "over"),
    [
        *((two(MAX_COUNTED, n), two(MAX_COUNTED + 1, n)) for n in ("minItems", "maxItems")),
        *((two(MAX_COUNTED, n), two(10**30, n)) for n in ("minProperties", "maxProperties")),
        *(({n: MAX_LENGTH}, {n: MAX_LENGTH + 1}) for n in ("minLength", "maxLength")),
        ({"maxItems": float(MAX_COUNTED)}, {"maxItems": 1e300}),
        ({"enum": [*range(MAX_CHOICES)]}, {"enum": [*range(MAX_CHOICES + 1)]}),
        (lists(MAX_DEPTH), lists(MAX_DEPTH + 1)),
        ({"pattern": f"a{{{MAX_STATES}}}"}, {"pattern": f"a{{{MAX_STATES + 1}}}"}),
        (
            {"patternProperties": {"(a{100}){100}": {}, "(b{100}){100}": {}}},
            {"patternProperties": {"(a{100}){100}": {}, "(b{100}){101}": {}}},
        ),
        ({"multipleOf": MAX_MULTIPLE - 1}, {"multipleOf": MAX_MULTIPLE + 1}),
        ({"multipleOf": 1e-9}, {"multipleOf": 12.34567}),
        (
            {"properties": {"a": {"multipleOf": 9973}, "b": {"multipleOf": 9967}}},
            {"allOf": [{"multipleOf": 9973}, {"multipleOf": 9967}]},
        ),
        (
            {"allOf": [{"multipleOf": 0.01}, {"multipleOf": 7}]},
            {"allOf": [{"multipleOf": 0.0001}, {"multipleOf": 70}]},
        ),
    ],
    ids=str,
)
def test_a_schema_is_refused_over_a_bound_and_taken_at_it(schema: Any, over: Any) -> None:
    check_schema(json.dumps(schema))
    with pytest.raises(BadPayload) as caught:
        check_schema(json.dumps(over))
    assert caught.value.where == "json_schema"


@pytest.mark.parametrize("text", ["", "{", "[" * 60_000, "\ud800", '{"minItems": NaN}'])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(BadPayload):
        check_schema(text)


@pytest.mark.parametrize(
    "text", ["true", "[]", "1", '{"minItems": true, "enum": 1, "pattern": {}}']
)
def test_what_is_no_bound_is_left_to_the_runtime(text: str) -> None:
    check_schema(text)


def test_a_generator_serves_the_requests_that_it_would_be_made_for_alike() -> None:
    def of(**fields: Any) -> object:
        constraint = fields.pop("constraint", Constraint("regex", "a"))
        return rules(GenerationRequest(constraint=constraint, sampling=Sampling(**fields)))

    assert of(top_p=0.5) == of(top_p=0.5) != of(top_p=0.6)
    assert of() != of(constraint=Constraint("regex", "b"))
    assert of(temperature=0, seed=1) == of(temperature=1e-9, seed=2, top_p=0.1)
    assert of(seed=1) is None  # its random numbers have begun
