"""The memory budget is kept, by those that were used longest ago, and never by pinned models."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from agent.engines.pool import MIB, Pool
from agent.errors import OverMemory


def filled(*names: str, budget: int = 10) -> Pool[str]:
    """A pool whose models take 3 MiB each, used in this order."""
    pool: Pool[str] = Pool(budget * MIB)
    for now, name in enumerate(names):
        pool.admit(name, 3 * MIB, now)
        pool.settle(name, 0, pinned=name.isupper())
    return pool


def test_the_one_used_longest_ago_makes_room() -> None:
    pool = filled("a", "b", "c")
    pool.use("a", 10)
    assert pool.admit("d", 3 * MIB, 11) == ["b"]
    assert "b" not in pool
    assert pool.taken == 9 * MIB


def test_as_many_go_as_must_and_no_more() -> None:
    assert filled("a", "b", "c").admit("d", 6 * MIB, 9) == ["a", "b"]
    assert filled("a", "b", "c").admit("d", 1 * MIB, 9) == []
    assert filled("a", "b", "c").admit("d", 10 * MIB, 9) == ["a", "b", "c"]


def test_pinned_models_stay_and_the_refusal_says_by_how_much() -> None:
    pool = filled("A", "b", "C")
    with pytest.raises(OverMemory, match="needs 7 MiB, which is 3 MiB more than the budget of 10"):
        pool.admit("d", 7 * MIB, 9)
    assert pool.taken == 9 * MIB, "nothing has changed"
    assert pool.admit("d", 4 * MIB, 9) == ["b"]


def test_one_that_is_being_loaded_is_not_asked_to_go() -> None:
    pool: Pool[str] = Pool(10 * MIB)
    pool.admit("loading", 6 * MIB, 0)
    with pytest.raises(OverMemory):
        pool.admit("b", 5 * MIB, 1)
    pool.settle("loading", 0, pinned=False)
    assert pool.admit("b", 5 * MIB, 2) == ["loading"]


def test_a_new_version_takes_the_place_of_the_old_one() -> None:
    pool = filled("A", "b", "C")
    assert pool.admit("A2", 4 * MIB, 9, replaced=["A"]) == []
    assert "A" in pool, "until it has left"
    pool.release(["A", "never there"])
    assert pool.taken == 10 * MIB


def test_what_it_turned_out_to_take_counts() -> None:
    pool = filled("a")
    pool.settle("a", 8 * MIB, pinned=False)
    assert pool.taken == 8 * MIB
    pool.settle("a", 1 * MIB, pinned=False)
    assert pool.taken == 8 * MIB


class Life(RuleBasedStateMachine):
    """Whatever happens, the budget is kept and pinned models stay."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[int] = Pool(100)
        self.now = 0.0
        self.pinned: set[int] = set()

    @rule(key=st.integers(0, 9), size=st.integers(0, 120), pinned=st.booleans())
    def load(self, key: int, size: int, pinned: bool) -> None:
        if key in self.pool:
            return
        self.now += 1
        try:
            leaving = self.pool.admit(key, size, self.now)
        except OverMemory:
            return
        assert self.pinned.isdisjoint(leaving)
        self.pool.settle(key, 0, pinned=pinned)
        if pinned:
            self.pinned.add(key)

    @rule(key=st.integers(0, 9))
    def use(self, key: int) -> None:
        self.now += 1
        self.pool.use(key, self.now)

    @rule(key=st.integers(0, 9))
    def unload(self, key: int) -> None:
        self.pool.release([key])
        self.pinned.discard(key)

    @invariant()
    def within_the_budget(self) -> None:
        assert self.pool.taken <= self.pool.budget
        assert all(key in self.pool for key in self.pinned)


TestLife = Life.TestCase


@given(st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_is_larger_than_the_budget_never_fits(size: int, budget: int) -> None:
    pool: Pool[str] = Pool(budget)
    if size <= budget:
        assert pool.admit("a", size, 0) == []
    else:
        with pytest.raises(OverMemory):
            pool.admit("a", size, 0)
