"""The registry's state as a value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent.errors import BadRequest, NotFound
from agent.registry.state import (
    KEPT_VERSIONS,
    Entry,
    Record,
    State,
    activated,
    decode,
    encode,
    installed,
    removed,
    rolled_back,
)
from agent.types import ModelRef


def record(name: str, version: str) -> Record:
    return Record(name, version, (Entry("model.onnx", 1, "a" * 64),), (), (), 0.0)


class Transitions(RuleBasedStateMachine):
    """Whatever is done in whatever order, one version of each installed model answers."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State()

    names = st.sampled_from(["a", "b"])
    versions = st.sampled_from(["1.0.0", "1.1.0", "1.2.0"])

    @rule(name=names, version=versions)
    def install(self, name: str, version: str) -> None:
        self.state = installed(self.state, record(name, version))
        assert self.state.find(name).version == version

    @rule(name=names, version=versions)
    def activate(self, name: str, version: str) -> None:
        try:
            self.state = activated(self.state, ModelRef(name, version))
        except NotFound:
            return
        assert self.state.find(name).version == version

    @precondition(lambda self: self.state.records)
    @rule(name=names)
    def roll_back(self, name: str) -> None:
        try:
            before = self.state.find(name)
            self.state = rolled_back(self.state, name)
        except NotFound:
            return
        assert self.state.find(name).ref != before.ref

    @rule(name=names, version=versions)
    def remove(self, name: str, version: str) -> None:
        try:
            self.state = removed(self.state, ModelRef(name, version))
        except (NotFound, BadRequest):
            return
        assert all(r.ref != ModelRef(name, version) for r in self.state.records)

    @invariant()
    def one_version_of_each_answers(self) -> None:
        for name in {r.name for r in self.state.records}:
            own = [r for r in self.state.records if r.name == name]
            assert sum(r.active for r in own) == 1
            assert len(own) <= KEPT_VERSIONS

    @invariant()
    def survives_the_disk(self) -> None:
        assert decode(encode(self.state)) == self.state


TestTransitions = Transitions.TestCase


@given(st.data())
def test_any_change_to_a_copy_is_noticed(data: st.DataObject) -> None:
    raw = bytearray(encode(installed(State(), record("a", "1.0.0"))))
    index = data.draw(st.integers(0, len(raw) - 2))  # the last newline may go
    raw[index] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(raw)) is None


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\0" * 500, b"{}\n" + b"0" * 64 + b"\n", b"\xff" * 90]
)
def test_what_is_no_state_is_no_state(data: bytes) -> None:
    assert decode(data) is None
