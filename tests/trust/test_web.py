"""A repository on a real web server, by TLS, that behaves and misbehaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.errors import (
    AgentError,
    Altered,
    BadConfig,
    NotFound,
    NotReachable,
    TooLarge,
)
from agent.trust.web import WebLimits, WebSource
from tests.fakes import web_server as faults
from tests.fakes.web_server import Fault, WebServer, web_server
from tests.support.certificates import make_certificates
from tests.support.fleet import Fleet

QUICK = WebLimits(
    connect_s=2.0, silence_s=0.5, window_s=0.3, least_bytes=1 << 10, pause_s=0.01
)  # fmt: skip
PATIENT = WebLimits(pause_s=0.01)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    found: dict[str, Path] = make_certificates(tmp_path_factory.mktemp("certificates"))
    return found


@pytest.fixture
def web(certificates: dict[str, Path]) -> Iterator[WebServer]:
    with web_server(certificates) as server:
        yield server


@pytest.fixture
def published(fleet: Fleet, web: WebServer) -> Fleet:
    """A fleet whose repository is on the server."""
    fleet.publish()
    web.publish(fleet.directory / "repository")
    return fleet


def source(web: WebServer, certificates: dict[str, Path], limits: WebLimits = QUICK) -> WebSource:
    return WebSource(web.url, ca_file=certificates["ca"], limits=limits)


def read(source: WebSource, path: str, offset: int = 0) -> bytes:
    return b"".join(source.read(path, offset))


def test_a_model_is_installed_by_https(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    assert published.registry.install(source(web, certificates), "negator").active
    assert published.restarted().open("negator").ref.version == "1.0.0"


def test_a_file_is_read_from_an_offset(web: WebServer, certificates: dict[str, Path]) -> None:
    web.files["targets/a b/model.onnx"] = bytes(range(200)) * 5000
    found = read(source(web, certificates), "targets/a b/model.onnx", 123_456)
    assert found == web.files["targets/a b/model.onnx"][123_456:]
    assert web.ranges(".onnx") == ["bytes=123456-"]


def test_plain_http_carries_the_same_signatures(published: Fleet) -> None:
    with web_server() as web:
        web.publish(published.directory / "repository")
        assert published.registry.install(WebSource(web.url), "negator").active


def test_a_server_of_an_unknown_authority_is_not_asked(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    with pytest.raises(NotReachable, match="not trusted") as caught:
        published.registry.install(WebSource(web.url, limits=QUICK), "negator")
    assert "ca_file" in str(caught.value)
    assert web.requests == []


def test_a_server_of_another_name_is_not_asked(
    web: WebServer, certificates: dict[str, Path]
) -> None:
    url = web.url.replace("127.0.0.1", "localhost")  # not in its certificate
    with pytest.raises(NotReachable, match="not trusted"):
        read(WebSource(url, ca_file=certificates["ca"], limits=QUICK), "metadata/1.root.json")


def test_a_cut_download_goes_on_where_it_stopped(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    web.faults[".onnx"] = faults.cut_after(10, times=5)
    assert published.registry.install(source(web, certificates, PATIENT), "negator").active
    assert web.ranges(".onnx") == ["", *(f"bytes={n * 10}-" for n in range(1, 6))]


def test_a_server_that_always_cuts_at_once_is_given_up_and_the_next_try_goes_on(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    web.faults[".onnx"] = faults.cut_after(0, times=1000)
    with pytest.raises(NotReachable):
        published.registry.install(source(web, certificates, PATIENT), "negator")
    assert len(web.ranges(".onnx")) == PATIENT.tries
    web.faults.clear()
    assert published.registry.install(source(web, certificates, PATIENT), "negator").active


def test_what_was_fetched_before_a_kill_is_not_fetched_again(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    web.faults[".onnx"] = faults.cut_after(16, times=1)
    limits = WebLimits(tries=1)
    with pytest.raises(NotReachable):
        published.registry.install(source(web, certificates, limits), "negator")
    web.requests.clear()
    assert published.registry.install(source(web, certificates, limits), "negator").active
    assert web.ranges(".onnx") == ["bytes=16-"]


@pytest.mark.parametrize("fault", [faults.ignore_ranges])
def test_a_server_without_ranges_serves_as_well(
    web: WebServer, certificates: dict[str, Path], fault: Fault
) -> None:
    web.files["targets/model"] = bytes(range(256)) * 4000
    web.faults["model"] = fault
    assert (
        read(source(web, certificates), "targets/model", 700_001)
        == (web.files["targets/model"][700_001:])
    )


def test_a_range_that_nobody_asked_for_is_refused(
    web: WebServer, certificates: dict[str, Path]
) -> None:
    web.files["targets/model"] = bytes(1000)
    web.faults["model"] = faults.another_range
    with pytest.raises(NotReachable, match="another range"):
        read(source(web, certificates), "targets/model", 500)


def test_an_offset_beyond_the_end_reads_nothing(
    web: WebServer, certificates: dict[str, Path]
) -> None:
    web.files["targets/model"] = bytes(1000)
    assert read(source(web, certificates), "targets/model", 2000) == b""


# What misbehaves, for metadata and for a model's file.

FAULTS: dict[str, tuple[Fault, type[AgentError]]] = {
    "slow loris": (faults.drip, NotReachable),
    "slow loris in the head": (faults.drip_the_head, NotReachable),
    "silence": (faults.silence, NotReachable),
    "404 for ever": (faults.status(404), NotFound),
    "403": (faults.status(403), NotFound),
    "500 for ever": (faults.status(500), NotReachable),
    "401": (faults.status(401), NotReachable),
    "too many requests": (faults.status(429), NotReachable),
    "to a file": (faults.redirect("file:///etc/passwd"), NotReachable),
    "to a gopher": (faults.redirect("gopher://127.0.0.1/"), NotReachable),
    "away from TLS": (faults.redirect("http://127.0.0.1:1/"), NotReachable),
    "to nowhere": (faults.redirect(""), NotReachable),
    "in circles": (faults.redirect("?"), NotReachable),
    "announces more than it sends": (faults.announce(10**6), NotReachable),
    "no HTTP": (lambda handler, _: handler.wfile.write(b"\0\xff" * 5000), NotReachable),
}


@pytest.mark.parametrize("ending", ["timestamp.json", ".onnx"])
@pytest.mark.parametrize(("fault", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_a_misbehaving_server_is_an_error_in_time(
    published: Fleet,
    web: WebServer,
    certificates: dict[str, Path],
    fault: Fault,
    expected: type[AgentError],
    ending: str,
) -> None:
    web.faults[ending] = fault
    with pytest.raises(expected) as caught:
        published.registry.install(source(web, certificates), "negator")
    assert type(caught.value) is expected
    assert published.registry.list() == []
    web.faults.clear()
    assert published.registry.install(source(web, certificates), "negator").active


@pytest.mark.parametrize(
    ("ending", "expected"), [("timestamp.json", TooLarge), (".onnx", Altered)]
)  # fmt: skip
def test_an_endless_body_ends_at_the_signed_length(
    published: Fleet,
    web: WebServer,
    certificates: dict[str, Path],
    ending: str,
    expected: type[AgentError],
) -> None:
    web.faults[ending] = faults.endless
    with pytest.raises(expected):
        published.registry.install(source(web, certificates), "negator")
    web.faults.clear()
    assert published.registry.install(source(web, certificates), "negator").active


def test_redirects_are_followed_a_few_times(
    published: Fleet, web: WebServer, certificates: dict[str, Path]
) -> None:
    (path,) = [path for path in web.files if path.endswith(".onnx")]
    web.files["elsewhere/blob"] = web.files.pop(path)
    web.faults[".onnx"] = faults.redirect("/elsewhere/blob")
    assert published.registry.install(source(web, certificates), "negator").active


def test_the_devices_own_certificate_is_shown(
    published: Fleet, certificates: dict[str, Path], web: WebServer
) -> None:
    """A server that serves known devices only is in `tests/sync`; here: the files are read."""
    device = WebSource(
        web.url, ca_file=certificates["ca"], certificate_file=certificates["device"],
        key_file=certificates["device_key"], limits=QUICK,
    )  # fmt: skip
    assert published.registry.install(device, "negator").active


@pytest.mark.parametrize(
    "url", ["https://", "ftp://host/", "https://user:secret@host/", "https://host/?a=b"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(BadConfig):
        WebSource(url)


def test_a_missing_authority_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadConfig, match="cannot be read") as caught:
        WebSource("https://host/", ca_file=tmp_path / "ca.pem")
    assert "ca.pem" in caught.value.where


def test_a_path_cannot_leave_the_repository(web: WebServer, certificates: dict[str, Path]) -> None:
    with pytest.raises(NotFound, match="leaves"):
        read(source(web, certificates), "targets/../../secret")
    assert web.requests == []
