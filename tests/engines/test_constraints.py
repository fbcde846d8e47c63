"""An expression is refused for what it asks for, not for its looks."""

import pytest

from agent.engines.constraints import MAX_STATES, states


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
