"""The intake without a socket: what is understood does not depend on how the bytes are cut."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from agent.api.callers import Caller, Role
from agent.api.http.errors import Problem
from agent.api.http.intake import Intake
from agent.api.http.limits import Limits
from agent.api.http.messages import Request, Response, Route
from agent.api.http.router import Router
from agent.api.settings import ApiSettings
from tests.support.wire import request

CALLER = Caller(1, 1, 1, Role.APP)


def answer(_: Request) -> Response:
    return Response([b""])


ROUTER = Router([Route("GET", "/a", answer, max_body=0), Route("POST", "/b/{name}", answer)])


@dataclass
class Outlet:
    """Keeps what arrives, until what follows cannot be understood."""

    seen: list[tuple[str, bytes]] = field(default_factory=list)
    problems: int = 0
    over: bool = False

    def begun(self) -> None:
        pass

    def body_begun(self, *, send_continue: bool) -> None:
        pass

    def arrived(self, item: Request) -> None:
        if not self.over:
            self.seen.append((f"{item.method} {item.arguments}", item.body))
            self.over = not item.keep_alive

    def broken(self, problem: Problem) -> None:
        self.problems += not self.over
        self.over = True

    def ended(self) -> None:
        self.over = True


def taken_in(pieces: list[bytes]) -> Outlet:
    """What one connection makes of the pieces, in order."""
    outlet = Outlet()
    intake = Intake(outlet, ROUTER, Limits.of(ApiSettings()), CALLER)
    for piece in pieces:
        if not outlet.over:
            intake.feed(piece)
    intake.release()
    assert intake._limits.bodies.held >= 0
    return outlet


def chunked(body: bytes) -> bytes:
    head = b"POST /b/c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"


BODIES = st.sampled_from([b"", b"x", b"yz", request("GET", "/a"), b"\r\n\r\n"])
GOOD = st.one_of(
    st.just(request("GET", "/a")),
    st.just(request("HEAD", "/a")),
    BODIES.map(lambda body: request("POST", "/b/n", body)),
    BODIES.map(chunked),
    st.just(request("GET", "/nowhere")),
)
ANY = GOOD | st.just(request("GET", "/a", Connection="close")) | st.binary(max_size=8)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends) if a < b]


@given(st.lists(GOOD, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_requests_are_the_same_however_they_are_cut(
    requests: list[bytes], places: list[int]
) -> None:
    """Whole, each by itself (where heads are remembered), in pieces, or byte by byte."""
    data = b"".join(requests)
    each = taken_in(requests)
    assert each.problems == 0
    assert len(each.seen) == len(requests)
    assert taken_in([data] if data else []).seen == each.seen
    assert taken_in(cut(data, places)).seen == each.seen
    assert taken_in([bytes([byte]) for byte in data]).seen == each.seen


@given(st.lists(ANY, max_size=6), st.lists(st.integers(0, 10_000), max_size=12))
def test_what_precedes_a_mistake_is_the_same_however_it_is_cut(
    requests: list[bytes], places: list[int]
) -> None:
    data = b"".join(requests)
    assert taken_in(cut(data, places)).seen == taken_in([bytes([byte]) for byte in data]).seen


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_arbitrary_bytes_are_refused_or_understood_and_nothing_else(pieces: list[bytes]) -> None:
    outlet = taken_in(pieces)
    assert outlet.problems <= 1
