"""Constraints that are made to kill the model: each is refused or followed, and the model lives."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from agent.engines.constraints import (
    MAX_CHOICES,
    MAX_COUNTED,
    MAX_DEPTH,
    MAX_LENGTH,
    MAX_MULTIPLE,
    MAX_STATES,
)
from agent.engines.generation import Constraint, Finish, GenerationRequest, Piece, Sampling
from agent.engines.isolated_text import PROGRAM, IsolatedTextSession
from agent.engines.worker.limits import Limits
from agent.engines.worker.process import Job
from agent.engines.worker.supervisor import Worker
from agent.errors import BadPayload
from tests.support import tiny_language


def nested(depth: int, inner: Any, **around: Any) -> Any:
    for _ in range(depth):
        inner = {"type": "array", "items": inner, **around}
    return inner


def chain(length: int, **siblings: Any) -> Any:
    """Definitions, each of which leads to the next."""
    steps = {
        f"d{n}": {"type": "array", "items": {"$ref": f"#/$defs/d{n + 1}"}, **siblings}
        for n in range(length)
    }
    return {"$ref": "#/$defs/d0", "$defs": {**steps, f"d{length}": {}}}


def endless(**fields: Any) -> Any:
    """Instances have no end: each needs another one inside."""
    again = {"type": "object", "required": ["x"], "additionalProperties": False}
    again["properties"] = {"x": {"$ref": "#/$defs/a"}}
    return {"$defs": {"a": again}, "$ref": "#/$defs/a", **fields}


COMPACT = {"x-guidance": {"whitespace_flexible": False}}
SCHEMAS: dict[str, Any] = {
    "a billion elements": {"type": "array", "minItems": 10**9},
    "up to a billion elements": {"type": "array", "maxItems": 10**9},
    "a float's worth of elements": {"type": "array", "minItems": 1e300},
    "as many elements as may be": {"type": "array", "minItems": MAX_COUNTED},
    "up to as many elements as may be": {"type": "array", "maxItems": MAX_COUNTED},
    "many arrays of many": {
        "anyOf": [{"type": "array", "maxItems": 10_000, "items": {"const": n}} for n in range(900)]
    },
    "elements to the third power": nested(3, {"type": "integer"}, minItems=MAX_COUNTED // 3),
    "a billion properties": {"type": "object", "minProperties": 10**9},
    "as many properties as may be": {"type": "object", "minProperties": MAX_COUNTED},
    "a string without end": {"type": "string", "minLength": 2**62},
    "the longest string": {"type": "string", "minLength": MAX_LENGTH},
    "a pattern that repeats": {"type": "string", "pattern": "a{1000000}"},
    "a pattern that repeats as often as may be": {
        "type": "string",
        "pattern": f"a{{{MAX_STATES}}}",
    },
    "many patterns that repeat": {"allOf": [{"pattern": f"(a{{{n}}}){{99}}"} for n in range(900)]},
    "a pattern of names that repeats": {"patternProperties": {"((a{999}){999}){999}": {}}},
    "white space that repeats": {
        "type": "object",
        "x-guidance": {"whitespace_pattern": "((a{999}){999}){999}"},
    },
    "multiples of ten million": {"type": "integer", "multipleOf": 10_000_019},
    "multiples that meet": {"allOf": [{"type": "integer", "multipleOf": n} for n in (9973, 9967)]},
    "the largest multiple": {"type": "integer", "multipleOf": MAX_MULTIPLE},
    "nested as deep as may be": nested(MAX_DEPTH - 2, {}),
    "nested deeper": nested(300, {}),
    "definitions in a long chain": chain(700),
    "definitions in a chain that branches": chain(300, allOf=[{"$ref": "#/$defs/d300"}]),
    "without an end": endless(),
    "without an end or white space": endless(**COMPACT),
    "in a circle": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
        "$ref": "#/$defs/a",
    },
    "of itself": {"": {"$ref": "#/"}, "$ref": "#/"},
    "choices of choices of choices": {
        "allOf": [{"anyOf": [{"properties": {f"{n}": {}}} for n in range(30)]} for _ in range(20)]
    },
    "choices squared": {"allOf": [{"enum": list(range(2500))} for _ in range(2)]},
    "as many choices as may be": {"enum": list(range(MAX_CHOICES))},
    "many properties": {"properties": {f"k{n}": {"type": "integer"} for n in range(1800)}},
    "many names": {"type": "object", "required": [f"k{n}" for n in range(5000)]},
    "numbers at the edge": {"type": "number", "minimum": -1e308, "maximum": 1e-308},
    "a number of many digits": {"const": 10**300},
    "a file": {"$ref": "file:///etc/passwd"},
}
EXPRESSIONS = {
    "a million times": "a{1000000}",
    "as often as may be": f"a{{{MAX_STATES}}}",
    "times times times": "((a{1000}){1000}){1000}",
    "repetitions of repetitions": "(a{140}){140}",
    "repetitions one after the other": "a" + "{20}" * 12,
    "letters of all scripts": r"\p{L}{9999}",
    "many states at once": ".*a.{1000}b",
    "two ways each time": "[ab]*a[ab]{300}c",
    "nothing or something": "(a?){5000}a{5000}",
    "anything, many times": "a*" * 5000 + "b",
    "groups in groups": "(" * 20_000 + ")" * 20_000,
    "ten thousand choices": "|".join(map(str, range(10_000))),
    "beyond a number": "a{99999999999999999999}",
    "with white space": "(?x)a { 1000000 }",
}
CASES = [
    *(pytest.param(Constraint("json_schema", json.dumps(s)), id=n) for n, s in SCHEMAS.items()),
    *(pytest.param(Constraint("regex", e), id=n) for n, e in EXPRESSIONS.items()),
]


@pytest.fixture(scope="module")
def isolated() -> Iterator[IsolatedTextSession]:
    options = {"engine": "genai", "model": "model.onnx", "threads": 1}
    job = Job("tiny 1.0.0", PROGRAM, options, Limits(memory_mib=1024))
    session = IsolatedTextSession(Worker(job, tiny_language.files))
    yield session
    session.close()


def written(session: IsolatedTextSession, constraint: Constraint, count: int = 20) -> None:
    """An answer under it, or its refusal; whatever else is raised is raised."""
    request = GenerationRequest(
        text="a", max_tokens=count, constraint=constraint, sampling=Sampling(seed=1)
    )
    with contextlib.suppress(BadPayload):
        list(session.generate(request))


@pytest.mark.parametrize("constraint", CASES)
def test_a_hostile_constraint_does_not_end_the_model(
    isolated: IsolatedTextSession, constraint: Constraint
) -> None:
    written(isolated, constraint)
    list(isolated.generate(GenerationRequest(text="a", max_tokens=2)))
    assert isolated.worker.ends == 0


SAMPLINGS = st.builds(
    Sampling,
    temperature=st.one_of(st.floats(0, 100), st.sampled_from([0, 1e-50, 1e-6, 2e-6, 1e-4])),
    top_p=st.one_of(st.floats(0, 1, exclude_min=True), st.sampled_from([1, 1e-300])),
    top_k=st.one_of(st.integers(0, 2**31 - 1), st.integers(0, 2 * tiny_language.VOCABULARY)),
    repetition_penalty=st.floats(0.01, 100),
    seed=st.one_of(st.none(), st.integers(0, 2**63 - 1)),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@example(Sampling(top_k=2**31 - 1))
@example(Sampling(top_k=tiny_language.VOCABULARY))
@example(Sampling(top_k=tiny_language.VOCABULARY - 1, top_p=0.5))
@given(SAMPLINGS)
def test_no_sampling_under_a_constraint_ends_the_model(
    isolated: IsolatedTextSession, sampling: Sampling
) -> None:
    constraint = Constraint("regex", "[a-z]{4}")
    request = GenerationRequest(text="a", max_tokens=9, constraint=constraint, sampling=sampling)
    *pieces, finish = isolated.generate(request)
    text = "".join(piece.text for piece in pieces if isinstance(piece, Piece))
    assert isinstance(finish, Finish)
    assert re.fullmatch("[a-z]{4}", text)


NUMBERS = st.one_of(st.integers(-2, 30), st.integers(-(2**70), 2**70), st.floats(allow_nan=False))
PARTS = st.sampled_from(["a", "b+", "[^x]", ".", r"\d", "(a|b)", "(c*)?", "{9}", "{0,99}", "{3,}"])
PATTERNS = st.lists(PARTS, max_size=8).map("".join)
LEAVES = st.one_of(
    st.booleans(),
    st.fixed_dictionaries({"$ref": st.sampled_from(["#", "#/$defs/a", "#/properties/a"])}),
    st.fixed_dictionaries({"enum": st.lists(st.one_of(st.none(), NUMBERS, st.text(max_size=5)))}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "array", "object"])},
        optional={
            **dict.fromkeys(("minItems", "maxItems", "minProperties", "maxProperties"), NUMBERS),
            **dict.fromkeys(
                ("minLength", "maxLength", "minimum", "maximum", "multipleOf"), NUMBERS
            ),
            "pattern": PATTERNS,
        },
    ),
)
ANY_SCHEMA = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries(
            {"type": st.just("array"), "items": inner}, optional={"minItems": NUMBERS}
        ),
        st.dictionaries(st.sampled_from("abcd"), inner, max_size=4).map(
            lambda found: {"properties": found, "required": list(found)[:2], "$defs": found}
        ),
        st.dictionaries(PATTERNS, inner, max_size=2).map(
            lambda found: {"patternProperties": found}
        ),
        st.lists(inner, min_size=1, max_size=4).map(lambda found: {"allOf": found}),
        st.lists(inner, min_size=1, max_size=4).map(lambda found: {"anyOf": found}),
        st.lists(inner, max_size=4).map(lambda found: {"prefixItems": found}),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.one_of(
        ANY_SCHEMA.map(lambda found: Constraint("json_schema", json.dumps(found))),
        PATTERNS.map(lambda found: Constraint("regex", found)),
    )
)
def test_no_constraint_ends_the_model(
    isolated: IsolatedTextSession, constraint: Constraint
) -> None:
    written(isolated, constraint, 5)
    assert isolated.worker.ends == 0
