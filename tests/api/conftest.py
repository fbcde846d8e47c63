"""Everything that serves works on both event loops."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator
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


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        yield Path(place)
