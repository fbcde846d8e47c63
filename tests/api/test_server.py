"""The life of the server: its socket's file, its start, its end, and who may call."""

import asyncio
import os
import socket
import stat
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from agent.api.callers import Role, Roles
from agent.api.http.socketfile import open_listener
from agent.api.settings import ApiSettings
from agent.errors import BadConfig, NotReachable
from agent.types import Event
from tests.api.test_routes import INFER, Listener, infer, tensor
from tests.fakes.engine import FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve, call_as, serving
from tests.support.wire import request, until

FIELDS = {"inputs": [tensor("INT8", [1, 4], data=[1, 2, 3, 4])]}


# The socket's file


def test_the_file_has_its_mode_and_owner(tmp_path: Path) -> None:
    settings = ApiSettings(tmp_path / "agent.sock", owner=str(os.getuid()), group=str(os.getgid()))
    with open_listener(settings, settings.socket):
        found = settings.socket.lstat()
        assert stat.S_ISSOCK(found.st_mode)
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o660, os.getuid())
        assert list(tmp_path.iterdir()) == [settings.socket]


def test_a_socket_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    settings = ApiSettings(tmp_path / "agent.sock")
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(settings.socket))
    with open_listener(settings, settings.socket), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(settings.socket))


def test_a_living_daemons_socket_is_left_alone(tmp_path: Path) -> None:
    settings = ApiSettings(tmp_path / "agent.sock")
    with open_listener(settings, settings.socket):
        inode = settings.socket.lstat().st_ino
        with pytest.raises(NotReachable, match="another daemon"):
            open_listener(settings, settings.socket)
        assert settings.socket.lstat().st_ino == inode


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    settings = ApiSettings(tmp_path / "agent.sock")
    settings.socket.write_text("precious")
    with pytest.raises(NotReachable, match="not a socket"):
        open_listener(settings, settings.socket)
    assert settings.socket.read_text() == "precious"


@pytest.mark.parametrize("what", ["owner", "group"])
def test_an_owner_that_does_not_exist_is_named(tmp_path: Path, what: str) -> None:
    settings = replace(ApiSettings(tmp_path / "agent.sock"), **{what: "nobody-of-that-name"})
    with pytest.raises(BadConfig) as caught:
        open_listener(settings, settings.socket)
    assert caught.value.where == what
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotReachable) as caught:
        open_listener(ApiSettings(), tmp_path / "absent" / "agent.sock")
    assert "absent" in caught.value.where


# The end


async def test_the_file_goes_with_the_server_but_not_another_ones(serve: Serve) -> None:
    async with serve() as api:
        await api.server.close(1)
        assert not api.path.exists()
        with open_listener(api.settings, api.settings.socket):
            await api.server.close(1)
            assert api.path.exists()


async def test_requests_under_way_are_answered_before_the_end(serve: Serve) -> None:
    slow = echo(ECHO, typical_s=1.0)
    assert isinstance(slow.session, FakeSession)
    slow.session.gate.clear()
    async with serve(FakeModels(slow)) as api:
        pending = asyncio.ensure_future(infer(api, FIELDS))
        idle = await api.connect()
        await until(lambda: slow.session.runs == 1)
        closing = asyncio.ensure_future(api.server.close(5))
        assert await idle.ended()
        with pytest.raises((FileNotFoundError, ConnectionRefusedError)):
            await api.connect()
        slow.session.gate.set()
        reply = await pending
        assert (reply.status, reply.headers["connection"]) == (200, "close")
        await asyncio.wait_for(closing, 1)


async def test_requests_that_do_not_end_are_cut_at_the_deadline(serve: Serve) -> None:
    hanging = echo(ECHO, typical_s=1.0)
    assert isinstance(hanging.session, FakeSession)
    hanging.session.gate.clear()
    async with serve(FakeModels(hanging)) as api:
        pending = asyncio.ensure_future(infer(api, FIELDS))
        await until(lambda: hanging.session.runs == 1)
        await asyncio.wait_for(api.server.close(0.1), 2)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await pending
        hanging.session.gate.set()


async def test_event_streams_end_properly_when_the_server_stops(serve: Serve) -> None:
    """The last chunk is there, so that a client does not take it for a broken connection."""
    async with serve() as api:
        listener = await Listener.open(api)
        api.events.publish(Event("test.happened", 0))
        await listener.event()
        await asyncio.wait_for(api.server.close(5), 1)
        assert await listener.chunk() == b""
        assert await listener.wire.ended()


async def test_closing_twice_and_without_a_start_is_fine(serve: Serve) -> None:
    async with serve() as api:
        await api.server.close(1)
        await api.server.close(1)


async def test_one_thousand_idle_connections_take_little_memory(serve: Serve) -> None:
    """At most 20 KiB each."""
    async with serve() as api:
        raw = []
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(1000):
            client = socket.socket(socket.AF_UNIX)
            client.connect(str(api.path))
            raw.append(client)
            if len(raw) % 50 == 0:
                await asyncio.sleep(0.01)
        await until(lambda: api.server._http.connections == 1000)
        used = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert (await api.call("GET", "/healthz")).status == 200
        for client in raw:
            client.close()
        await until(lambda: api.server._http.connections <= 1)
    assert used < 1000 * 20 * 1024


# Who calls


def test_root_and_the_daemons_own_user_are_operators(tmp_path: Path) -> None:
    roles = Roles(ApiSettings(tmp_path / "s", default_role="none"))
    assert roles.role(0, 0) is roles.role(os.geteuid(), 1) is Role.OPERATOR


def test_the_highest_role_that_a_user_or_its_groups_are_given_counts(tmp_path: Path) -> None:
    settings = ApiSettings(
        tmp_path / "s",
        viewers=("60001", "@60100"),
        apps=("@60101",),
        operators=("60002",),
        default_role="none",
    )
    roles = Roles(settings)
    assert roles.role(60001, 60001) is Role.VIEWER
    assert roles.role(60001, 60101) is Role.APP
    assert roles.role(60002, 60100) is Role.OPERATOR
    assert roles.role(60003, 60003) is Role.NONE


def test_others_get_the_default_role(tmp_path: Path) -> None:
    assert Roles(ApiSettings(tmp_path / "s")).role(60009, 60009) is Role.APP


def test_a_role_for_a_user_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadConfig) as caught:
        Roles(ApiSettings(tmp_path / "s", apps=("nobody-of-that-name",)))
    assert caught.value.where == "apps"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as somebody else")
async def test_what_a_caller_may_do_is_what_the_kernel_says_it_is(
    open_directory: Path,
) -> None:
    """Processes of other users, through a socket that lets everybody in."""
    body = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}'
    settings = {"mode": "0666", "viewers": ("60001",), "apps": ("60002",), "default_role": "none"}
    async with serving(open_directory, **settings) as api:
        look, ask = request("GET", "/v2"), request("POST", INFER, body)
        answers = {
            (uid, what): (await call_as(uid, api.path, data))[9:12]
            for uid in (60001, 60002, 60003)
            for what, data in (("look", look), ("ask", ask))
        }
    assert answers == {
        (60001, "look"): "200", (60001, "ask"): "403",
        (60002, "look"): "200", (60002, "ask"): "200",
        (60003, "look"): "403", (60003, "ask"): "403",
    }  # fmt: skip


# Settings


@pytest.mark.parametrize(
    "changes",
    [
        {"max_body_mib": 0},
        {"idle_timeout_s": -1.0},
        {"default_role": "king"},
        {"mode": "rw-rw----"},
        {"mode": "7777"},
        {"max_bodies_mib": 1},
        {"socket": Path("/" + "x" * 100)},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(changes: dict[str, object]) -> None:
    with pytest.raises(BadConfig) as caught:
        replace(ApiSettings(), **changes)
    assert caught.value.where == next(iter(changes))


async def test_idle_connections_wake_nobody(serve: Serve) -> None:
    """The next look is when the first of them has been idle for too long, not before."""
    async with serve(idle_timeout_s=60.0) as api:
        wires = [await api.connect() for _ in range(3)]
        for wire in wires:
            await wire.call("GET", "/healthz")
        server = api.server._http
        server._sweep_out()
        assert 50 < server.sweeps_at - asyncio.get_running_loop().time() <= 60


async def test_no_connections_need_no_timer(serve: Serve) -> None:
    async with serve() as api:
        wire = await api.connect()
        await wire.call("GET", "/healthz")
        wire.close()
        await until(lambda: api.server._http.connections == 0)
        api.server._http._sweep_out()
        assert api.server._http._sweep is None
