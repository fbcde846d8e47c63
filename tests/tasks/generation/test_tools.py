"""What a model is told of functions, and what its answers mean."""

import json

import pytest

from agent.errors import BadPayload
from agent.tasks.generation.tools import Call, Tool, instructions, parsed, schema

PYDANTIC = {
    "$defs": {"Unit": {"enum": ["C", "F"]}},
    "properties": {"unit": {"$ref": "#/$defs/Unit"}},
    "type": "object",
}


def test_two_functions_with_definitions_of_one_name_do_not_meet() -> None:
    other = {**PYDANTIC, "$defs": {"Unit": {"enum": ["K"]}}}
    made = json.loads(schema([Tool("a", "", PYDANTIC), Tool("b", "", other)], may_reply=True))
    units = []
    for number in (0, 1):
        arguments = made["$defs"][f"arguments{number}"]
        assert arguments["properties"]["unit"] == {"$ref": f"#/$defs/arguments{number}/$defs/Unit"}
        units.append(arguments["$defs"]["Unit"]["enum"])
    assert units == [["C", "F"], ["K"]]
    assert len(made["anyOf"]) == 3  # and a reply


def test_the_model_is_told_of_a_function_as_it_was_sent() -> None:
    assert json.dumps(PYDANTIC, separators=(",", ":")) in instructions(
        [Tool("a", "", PYDANTIC)], may_reply=False
    )


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        ('{"name":"a","arguments":{"x":1}}', Call("a", '{"x":1}')),
        ('{"reply":"Hello"}', "Hello"),
    ],
)
def test_answers(answer: str, meaning: Call | str) -> None:
    assert parsed(answer) == meaning


@pytest.mark.parametrize("answer", ['{"name":"a","argum', "[]", '{"name":"a"}', '{"reply":1}'])
def test_an_answer_that_is_cut_short_is_none(answer: str) -> None:
    with pytest.raises(BadPayload):
        parsed(answer)
