"""The client that commands use, against a real server in a thread of its own."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent import errors
from agent.api.client import Client, error_from
from agent.api.http.errors import error_response, status_of
from agent.errors import AgentError, BadTensor, NotFound, NotReachable, TooMany, Unavailable
from agent.types import Event
from tests.support.served import Served, serving


class Background:
    """A served API in another thread."""

    def __init__(self, directory: Path) -> None:
        self.ready = threading.Event()
        self.api: Served
        self.loop: asyncio.AbstractEventLoop
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main(directory)))
        self.thread.start()
        assert self.ready.wait(10)

    async def _main(self, directory: Path) -> None:
        self._end = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        async with serving(directory) as self.api:
            self.ready.set()
            await self._end.wait()

    def stop(self) -> None:
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self._end.set)
            self.thread.join()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Background]:
    background = Background(tmp_path)
    yield background
    background.stop()


@pytest.fixture
def client(daemon: Background) -> Iterator[Client]:
    client = Client(daemon.api.path)
    yield client
    client.close()


BODY = {"inputs": [{"name": "x", "datatype": "INT8", "shape": [1, 4], "data": [1, 2, 3, 4]}]}


def test_get_and_post(client: Client) -> None:
    assert client.get_json("/healthz") == {"status": "ok"}
    assert client.post("/v2/models/echo/infer", BODY)["outputs"][0]["data"] == [1, 2, 3, 4]
    assert "edge_agent_api_connections 1\n" in client.get_text("/metrics")


def test_the_daemons_errors_come_back_as_themselves(client: Client) -> None:
    with pytest.raises(NotFound) as missing:
        client.get_json("/v2/models/nobody")
    assert missing.value.where == "nobody"
    with pytest.raises(BadTensor):
        client.post("/v2/models/echo/infer", {"inputs": []})


def test_a_daemon_that_is_not_ready_says_why(daemon: Background, client: Client) -> None:
    daemon.api.service.starting = "loading models"
    with pytest.raises(Unavailable, match="loading models"):
        client.get_json("/readyz")


def test_a_body_that_is_refused_before_it_is_read(daemon: Background) -> None:
    client = Client(daemon.api.path)
    with pytest.raises(errors.TooLarge):
        client.post("/v2/models/echo/infer", b"x" * (65 << 20))


def test_several_threads_share_a_client(client: Client) -> None:
    results: list[object] = []
    threads = [
        threading.Thread(
            target=lambda: results.extend(client.get_json("/healthz") for _ in range(50))
        )
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [{"status": "ok"}] * 300


def test_events_are_followed_until_the_daemon_stops(daemon: Background, client: Client) -> None:
    def publish() -> None:
        daemon.api.events.publish(Event("test.happened", 2.0, {"a": 1}))

    stream = client.events(after=0)
    daemon.loop.call_soon_threadsafe(publish)
    assert next(stream) == {"id": 1, "type": "test.happened", "time": 2.0, "data": {"a": 1}}
    daemon.stop()
    assert list(stream) == []


def test_a_daemon_that_came_back_is_found_again(tmp_path: Path) -> None:
    """The kept connection is dead, the call succeeds all the same."""
    first = Background(tmp_path)
    client = Client(first.api.path)
    client.get_json("/healthz")
    first.stop()
    second = Background(tmp_path)
    assert client.get_json("/healthz") == {"status": "ok"}
    client.close()
    second.stop()


def test_no_daemon_is_an_error_that_says_how_to_start_one(tmp_path: Path) -> None:
    with pytest.raises(NotReachable) as caught:
        Client(tmp_path / "agent.sock").get_json("/healthz")
    assert "edge-agent run" in caught.value.hint


def all_errors() -> list[type[AgentError]]:
    found = [AgentError]
    for cls in found:
        found += cls.__subclasses__()
    return [cls for cls in found if cls.__module__ == errors.__name__]


@pytest.mark.parametrize("cls", all_errors())
def test_every_error_has_a_status_and_survives_the_way(cls: type[AgentError]) -> None:
    """There is no class for which the table has no answer, and the client makes the same of it."""
    error = cls("what is wrong", where="here", hint="do this")
    response = error_response(error)
    assert 400 <= status_of(error) < 600
    back = error_from(response.status, b"".join(response.parts), None)
    assert type(back) is cls
    assert (back.message, back.where, back.hint) == ("what is wrong", "here", "do this")


def test_the_pause_that_an_error_asks_for_survives_too() -> None:
    back = error_from(429, b'{"code":"limit.rate","message":"m"}', "7")
    assert isinstance(back, TooMany)
    assert back.retry_after_s == 7


def test_an_answer_that_is_no_error_of_ours_is_still_an_error() -> None:
    assert isinstance(error_from(502, b"<html>", None), Unavailable)
    assert isinstance(error_from(400, b"", None), errors.BadPayload)
