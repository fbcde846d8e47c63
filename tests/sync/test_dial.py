"""Blocking work beside the loop: its result or error arrives, and what nobody wants is closed."""

import asyncio
import threading

import pytest

from agent.errors import BadConfig
from agent.sync.dial import in_thread, password
from agent.sync.settings import LinkSettings
from tests.sync.conftest import until


class Thing:
    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


async def test_results_and_errors_arrive():
    thing = Thing()
    assert await in_thread(lambda: thing) is thing
    assert not thing.closed
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 / 0)


async def test_what_comes_too_late_is_closed_and_nobody_waits_for_it():
    gate, thing = threading.Event(), Thing()

    def work() -> Thing:
        gate.wait(10)
        return thing

    waiting = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await until(lambda: thing.closed)


async def test_what_arrived_in_the_moment_of_giving_up_is_closed_as_well():
    gate, thing = threading.Event(), Thing()

    def work() -> Thing:
        gate.set()
        return thing

    waiting = asyncio.create_task(in_thread(work))
    await asyncio.sleep(0)
    gate.wait(10)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: thing.closed)


def test_a_password_is_the_first_line_of_its_file(tmp_path):
    file = tmp_path / "password"
    file.write_text("s3cret with spaces\nnot this\n", encoding="utf-8")
    assert password(LinkSettings(username="x", password_file=file)) == "s3cret with spaces"
    assert password(LinkSettings(username="x")) is None
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(BadConfig):
        password(LinkSettings(username="x", password_file=file))
