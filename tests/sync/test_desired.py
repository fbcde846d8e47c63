"""What is desired: applied by path, refused by path, and taken back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.api.tunable import ESCALATION, PIPELINE, ROOT, SYNC
from agent.sync.desired import MAX_REJECTED, Group, Rejected, nested, pointer, settle
from agent.sync.merge_patch import MAX_DEPTH, merge

GROUPS = [
    Group((), ROOT, {"log_level": "info"}, lambda _: None),
    Group(("sync",), SYNC, {"bandwidth_bit_s": 0, "quiet_hours": []}, lambda _: None),
    Group(("escalation",), ESCALATION, {"deadline_s": 60.0}, lambda _: None),
    Group(("pipelines", "p/~1"), PIPELINE, dict.fromkeys(PIPELINE, 1), lambda _: None),
]
NOTHING = {
    "log_level": "info", "sync": {"bandwidth_bit_s": 0, "quiet_hours": []},
    "escalation": {"deadline_s": 60.0}, "pipelines": {"p/~1": dict.fromkeys(PIPELINE, 1)},
}  # fmt: skip


def test_nothing_desired_is_what_the_configuration_says():
    values, rejected = settle({}, GROUPS)
    assert (nested(values), rejected) == (NOTHING, [])


def test_good_parts_take_effect_and_bad_ones_are_named():
    values, rejected = settle(
        {
            "log_level": "loud",
            "sync": {"bandwidth_bit_s": 64_000, "quiet_hours": ["25:00-1"], "colour": "red"},
            "pipelines": {"p/~1": {"raise_score": 2}, "other": {"raise_score": 2}},
            "escalation": 5,
        },
        GROUPS,
    )
    found = nested(values)
    assert found["sync"] == {"bandwidth_bit_s": 64_000, "quiet_hours": []}
    assert found["pipelines"]["p/~1"]["raise_score"] == 2
    assert {part.path for part in rejected} == {
        "/log_level", "/sync/quiet_hours", "/sync/colour", "/pipelines/other", "/escalation",
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [True, "1", None, [], {}, -1, 10**12 + 1, 1.5, float("inf"), float("nan"), 10**400]
)
def test_a_number_of_the_wrong_kind_or_size_is_refused(value):
    values, rejected = settle({"sync": {"bandwidth_bit_s": value}}, GROUPS)
    assert [part.path for part in rejected] == ["/sync/bandwidth_bit_s"]
    assert nested(values)["sync"]["bandwidth_bit_s"] == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["log_level", "sync", "pipelines", "x"]), JSON))
def test_no_document_does_more_than_it_says(document):
    values, rejected = settle(document, GROUPS)
    assert nested(values).keys() == NOTHING.keys()
    assert len(rejected) <= MAX_REJECTED
    assert values[("escalation",)] == {"deadline_s": 60.0}


def test_a_document_full_of_rubbish_makes_no_endless_report():
    _, rejected = settle({f"x{n}": n for n in range(5000)}, GROUPS)
    assert len(rejected) == MAX_REJECTED


def test_paths_are_json_pointers():
    assert pointer(("pipelines", "a/b~c")) == "/pipelines/a~1b~0c"
    assert Rejected(pointer(()), "all of it").path == ""


# RFC 7396, appendix A
EXAMPLES = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({"a": "foo"}, None, None),
    ({"a": "foo"}, "bar", "bar"),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), EXAMPLES)
def test_merge_patches_do_what_the_standard_says(target, patch, result):
    before = json.dumps(target)
    assert merge(target, patch) == result
    assert json.dumps(target) == before


def test_a_patch_nested_too_deep_is_refused():
    patch: dict = {}
    for _ in range(MAX_DEPTH + 1):
        patch = {"a": patch}
    with pytest.raises(ValueError, match="deep"):
        merge({}, patch)
