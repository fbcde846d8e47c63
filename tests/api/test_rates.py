"""What one caller may ask: the count itself, then over real connections."""

import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.api.callers import Role
from agent.api.rates import MAX_KEPT, Account, Accounts, Allowance, Refusals
from agent.api.settings import ApiSettings
from agent.api.tokens import issue
from agent.errors import TooMany
from agent.telemetry.metrics import Metrics
from tests.fakes.engine import FakeModels, FakeSession, echo
from tests.support.served import ECHO, Serve, Served, call_as, serving
from tests.support.wire import Wire, request, until

INFER = "/v2/models/echo/infer"
DATA = b'{"inputs":[{"name":"x","datatype":"INT8","shape":[1,4],"data":[1,2,3,4]}]}'


@given(
    rate=st.floats(0.1, 1e5),
    burst=st.integers(1, 1000),
    gaps=st.lists(st.floats(0, 10), max_size=200),
)
def test_never_more_than_the_burst_and_the_rate_of_the_time_since(
    rate: float, burst: int, gaps: list[float]
) -> None:
    account = Account(allowance=Allowance(rate=rate, burst=burst))
    now, begun, admitted = 0.0, 0.0, 0
    for gap in gaps:
        now += gap
        admitted += account.refusal(now) is None
        assert admitted <= burst + rate * (now - begun) + 0.02


@given(rate=st.floats(0.1, 1e5), burst=st.integers(1, 50))
def test_the_pause_that_a_refusal_names_is_long_enough_and_no_longer(
    rate: float, burst: int
) -> None:
    account = Account(allowance=Allowance(rate=rate, burst=burst))
    for _ in range(burst):
        assert account.refusal(5.0) is None
    refusal = account.refusal(5.0)
    assert isinstance(refusal, TooMany)
    assert account.refusal(5.0 + 0.99 * refusal.retry_after_s) is not None
    assert account.refusal(5.0 + 1.01 * refusal.retry_after_s) is None


def test_root_and_the_daemons_own_user_have_no_bounds() -> None:
    accounts = Accounts(ApiSettings(max_caller_rate=1, max_caller_burst=1), Refusals(Metrics()))
    own = accounts.of_user(0, "operator", privileged=True, now=0)
    assert [own.refusal(0) for _ in range(100_000)] == [None] * 100_000


def test_a_user_does_not_get_a_new_allowance_by_connecting_again() -> None:
    settings = ApiSettings(max_caller_rate=1, max_caller_burst=1)
    accounts = Accounts(settings, Refusals(Metrics()))
    assert accounts.of_user(7, "app", privileged=False, now=0).refusal(0) is None
    assert accounts.of_user(7, "app", privileged=False, now=0).refusal(0) is not None


def test_accounts_of_users_who_went_are_forgotten() -> None:
    accounts = Accounts(ApiSettings(), Refusals(Metrics()))
    for uid in range(10 * MAX_KEPT):
        accounts.of_user(uid, "app", privileged=False, now=float(uid)).refusal(float(uid))
    assert len(accounts._by_user) <= MAX_KEPT


# Over TCP, where tests can be several callers in one process


async def callers(api: Served, *tokens: str) -> list[tuple[Wire, str]]:
    return [(await api.connect_tcp(), f"Bearer {token}") for token in tokens]


def limited(api: Served) -> dict[tuple[str, ...], float]:
    names = ("caller", "role", "limit")
    return api.metrics.counter("edge_agent_api_limited_total", "", names).series()


async def test_a_caller_over_its_rate_is_429_and_the_others_are_not(serve: Serve) -> None:
    (greedy, first), (modest, second) = issue(Role.APP), issue(Role.APP)
    settings = {"tcp": "127.0.0.1:0", "tokens": (first, second)}
    async with serve(**settings, max_caller_rate=0.1, max_caller_burst=3) as api:
        (wire, token), (other, others) = await callers(api, greedy, modest)
        statuses = [
            (await wire.call("POST", INFER, DATA, Authorization=token)).status for _ in range(3)
        ]
        refused = await wire.call("POST", INFER, DATA, Authorization=token)
        assert statuses == [200, 200, 200]
        assert (refused.status, refused.json()["code"]) == (429, "limit.rate")
        assert 0 < int(refused.headers["retry-after"]) <= 10
        # Another connection of the same caller is the same caller.
        (again, _), *_ = await callers(api, greedy)
        assert (await again.call("GET", "/v2", Authorization=token)).status == 429
        assert (await other.call("POST", INFER, DATA, Authorization=others)).status == 200
        assert limited(api) == {("token", "app", "rate"): 2}


async def test_tokens_are_guessed_at_a_bounded_rate(serve: Serve) -> None:
    """All who have shown none share one allowance, however many connections they open."""
    _, entry = issue(Role.APP)
    settings = {"tcp": "127.0.0.1:0", "tokens": (entry,)}
    async with serve(**settings, max_caller_rate=0.1, max_caller_burst=2) as api:
        wires = await callers(api, "guess-1", "guess-2", "guess-3")
        answers = [await wire.call("GET", "/v2", Authorization=guess) for wire, guess in wires]
        assert [answer.status for answer in answers] == [401, 401, 429]
        assert limited(api) == {("anonymous", "none", "rate"): 1}


async def test_a_refused_caller_that_does_not_wait_is_answered_slowly(serve: Serve) -> None:
    """A loop of refusals must not cost more than the requests would have."""
    token, entry = issue(Role.APP)
    settings = {"tcp": "127.0.0.1:0", "tokens": (entry,)}
    async with serve(**settings, max_caller_rate=0.1, max_caller_burst=1) as api:
        ((wire, authorization),) = await callers(api, token)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for _ in range(4):
            await wire.call("GET", "/v2", Authorization=authorization)
        assert loop.time() - begun >= 3 * 0.05


async def test_requests_of_one_caller_leave_places_for_others(serve: Serve) -> None:
    (greedy, first), (modest, second) = issue(Role.APP), issue(Role.APP)
    slow = echo(ECHO, typical_s=1.0)
    assert isinstance(slow.session, FakeSession)
    slow.session.gate.clear()
    settings = {"tcp": "127.0.0.1:0", "tokens": (first, second), "max_caller_running": 2}
    async with serve(FakeModels(slow), **settings) as api:
        wires = await callers(api, greedy, greedy, greedy, modest)
        for wire, token in (*wires[:2], wires[3]):
            await wire.send(request("POST", INFER, DATA, Authorization=token))
        await until(lambda: api.service.admission.running == 3)
        wire, token = wires[2]
        assert (await wire.call("POST", INFER, DATA, Authorization=token)).status == 429
        slow.session.gate.set()
        assert [(await wires[i][0].reply()).status for i in (0, 1, 3)] == [200, 200, 200]
        # The places are free again.
        assert (await wire.call("POST", INFER, DATA, Authorization=token)).status == 200


async def test_a_caller_that_goes_gives_its_places_back(serve: Serve) -> None:
    token, entry = issue(Role.APP)
    settings = {"tcp": "127.0.0.1:0", "tokens": (entry,), "max_caller_running": 1}
    async with serve(**settings) as api:
        (wire, authorization), (other, _) = await callers(api, token, token)
        await wire.send(request("GET", "/api/events", Authorization=authorization))
        await wire.reader.readuntil(b"\r\n\r\n")
        assert (await other.call("GET", "/api/models", Authorization=authorization)).status == 429
        wire.close()
        await until(lambda: api.events.listeners == 0)
        assert (await other.call("GET", "/api/models", Authorization=authorization)).status == 200


async def test_bodies_of_one_caller_leave_room_for_others(serve: Serve) -> None:
    (greedy, first), (modest, second) = issue(Role.APP), issue(Role.APP)
    bounds = {"max_body_mib": 1, "max_caller_bodies_mib": 1, "max_bodies_mib": 2}
    async with serve(tcp="127.0.0.1:0", tokens=(first, second), **bounds) as api:
        wires = await callers(api, greedy, greedy, modest)
        head = f"POST {INFER} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n"
        for wire, token in wires:
            await wire.send(f"{head}Authorization: {token}\r\n\r\n".encode() + b" " * 600_000)
            await asyncio.sleep(0.05)
        assert (await wires[1][0].reply()).status == 429
        await wires[2][0].send(b" " * 400_000)
        assert (await wires[2][0].reply()).status == 400  # read whole, and not a request
        assert limited(api) == {("token", "app", "bodies"): 1}
        wires[0][0].close()
        await until(lambda: api.server._http.limits.bodies.held == 0)


async def test_event_streams_of_one_caller_leave_some_for_others(serve: Serve) -> None:
    (greedy, first), (modest, second) = issue(Role.VIEWER), issue(Role.VIEWER)
    settings = {"tcp": "127.0.0.1:0", "tokens": (first, second), "max_caller_event_streams": 1}
    async with serve(**settings) as api:
        wires = await callers(api, greedy, greedy, modest)
        for wire, token in (wires[0], wires[2]):
            await wire.send(request("GET", "/api/events", Authorization=token))
            assert b"200 OK" in await wire.reader.readuntil(b"\r\n\r\n")
        await until(lambda: api.events.listeners == 2)
        wire, token = wires[1]
        assert (await wire.call("GET", "/api/events", Authorization=token)).status == 429
        assert limited(api) == {("token", "viewer", "streams"): 1}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can call as somebody else")
async def test_a_users_processes_share_its_rate(open_directory: Path) -> None:
    """The kernel says who calls: another process of the user is the same caller, root is another."""
    bounds = {"max_caller_rate": 0.1, "max_caller_burst": 1}
    async with serving(open_directory, mode="0666", **bounds) as api:
        look = request("GET", "/v2")
        answers = [(await call_as(60002, api.path, look))[9:12] for _ in range(2)]
        assert answers == ["200", "429"]
        assert (await call_as(60003, api.path, look))[9:12] == "200"
        assert (await api.call("GET", "/v2")).status == 200
        assert limited(api) == {("user", "app", "rate"): 1}
