"""Real kills at real system calls; `python -m bench powercut` does five hundred of them."""

from pathlib import Path

import pytest

from bench.powercut import measure
from tests.support.cuts import Untraceable


def test_a_kill_at_any_call_leaves_the_old_or_the_new_version(tmp_path: Path) -> None:
    try:
        outcome = measure(tmp_path, cuts=12, seed=2)
    except Untraceable as error:
        pytest.skip(str(error))
    assert outcome.cuts == 12
    assert outcome.neither == 0
    assert outcome.unmended == 0
    assert set(outcome.left) <= {"1.0.0", "1.1.0"}
