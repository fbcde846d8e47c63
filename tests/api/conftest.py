"""Everything that serves works on both event loops."""

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import uvloop

from tests.support.served import Serve, serving


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serve in this test's directory."""
    return partial(serving, tmp_path)
