"""A fleet for each test."""

from pathlib import Path

import pytest

from tests.support.fleet import Fleet, make_fleet


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return make_fleet(tmp_path)
