"""TOML values into frozen dataclasses: what does not fit is refused, saying what was expected."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from agent.config.build import Wrong, build, expected
from agent.errors import BadConfig


@dataclass(frozen=True)
class Inner:
    port: int = 1883


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 1.0
    on: bool = True
    mode: Literal["a", "b"] = "a"
    where: Path = Path()
    topics: tuple[str, ...] = ()
    limit: int | None = None
    inner: Inner = field(default_factory=Inner)
    inners: tuple[Inner, ...] = ()

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise BadConfig("must not be negative", where="rate")


def refused(table: Any) -> Wrong:
    with pytest.raises(Wrong) as caught:
        build(Outer, table)
    return caught.value


def test_fills_every_kind_of_field() -> None:
    outer = build(
        Outer,
        {
            "name": "x", "rate": 2, "on": False, "mode": "b", "where": "/tmp", "topics": ["t"],
            "limit": 3, "inner": {"port": 1}, "inners": [{"port": 2}],
        },
    )  # fmt: skip
    assert outer == Outer("x", 2.0, False, "b", Path("/tmp"), ("t",), 3, Inner(1), (Inner(2),))
    assert isinstance(outer.rate, float)


def test_absent_keys_take_their_defaults() -> None:
    assert build(Outer, {"name": "x"}) == Outer("x")


def test_an_unknown_key_names_the_nearest_known_one() -> None:
    wrong = refused({"name": "x", "topcs": []})
    assert (wrong.path, wrong.hint) == (("topcs",), 'Did you mean "topics"?')


def test_an_unknown_key_far_from_all_lists_them() -> None:
    assert "inner, inners, limit" in refused({"name": "x", "zzz": 1}).hint


def test_a_missing_required_key_is_named() -> None:
    assert '"name" is missing' in refused({}).message


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("name", 5, "expected a string, got the number 5"),
        ("rate", "fast", 'expected a number, got the string "fast"'),
        ("rate", True, "expected a number, got true"),
        ("limit", 1.5, "expected a whole number, got the number 1.5"),
        ("limit", False, "expected a whole number, got false"),
        ("on", 1, "expected true or false, got the number 1"),
        ("mode", "c", 'expected one of "a", "b", got the string "c"'),
        ("topics", "t", 'expected a list of which each is a string, got the string "t"'),
        ("inner", [], "expected a table, got a list"),
        ("where", {}, "expected a path as a string, got a table"),
    ],
)
def test_a_wrong_type_says_what_was_expected(key: str, value: Any, message: str) -> None:
    wrong = refused({"name": "x", key: value})
    assert (wrong.path, wrong.message) == ((key,), message)


def test_the_path_leads_into_nested_tables() -> None:
    assert refused({"name": "x", "inners": [{}, {"port": "p"}]}).path == ("inners", 1, "port")


def test_what_the_class_itself_refuses_keeps_its_field() -> None:
    wrong = refused({"name": "x", "rate": -1})
    assert (wrong.path, wrong.message) == (("rate",), "must not be negative")


def test_a_type_that_settings_cannot_hold_is_our_mistake() -> None:
    with pytest.raises(TypeError):
        expected(bytes)
