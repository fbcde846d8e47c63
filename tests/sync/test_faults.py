"""Kills of the agent, restarts of the broker and cuts of the network, at random, for real."""

import shutil

import pytest

from bench.faults import measure
from tests.support.broker import find_mosquitto


@pytest.mark.parametrize(
    ("cuts", "messages"), [(15, 3_000), pytest.param(300, 60_000, marks=[pytest.mark.long, pytest.mark.timeout(900)])]
)  # fmt: skip
async def test_nothing_is_lost_nothing_is_doubled_and_the_account_adds_up(tmp_path, cuts, messages):
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (Debian: apt install mosquitto)")
    outcome = await measure(tmp_path, cuts, messages, seed=7)
    assert sum(outcome.faults.values()) == cuts
    assert outcome.faults["kill the agent"] > 0
    assert outcome.messages == messages
    assert (outcome.lost, outcome.doubled, outcome.disordered, outcome.imbalance) == (0, 0, 0, 0)
    shutil.rmtree(tmp_path)
