"""TCP: off unless configured, and never without a token."""

import datetime as dt
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent.api.callers import Role
from agent.api.rates import Account
from agent.api.settings import ApiSettings
from agent.api.tokens import Tokens, issue
from agent.errors import BadConfig
from tests.api.test_http import BODY, INFER
from tests.support.served import Serve

TOKEN, ENTRY = issue(Role.APP)
WATCHER, WATCHER_ENTRY = issue(Role.VIEWER)
ON = {"tcp": "127.0.0.1:0", "tokens": (ENTRY, WATCHER_ENTRY)}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_tcp_is_off_unless_configured(serve: Serve) -> None:
    async with serve(tokens=(ENTRY,)) as api:
        assert api.server.tcp_port == 0


@pytest.mark.parametrize(
    "headers",
    [{}, bearer("wrong"), bearer(""), {"Authorization": f"Basic {TOKEN}"}, bearer(ENTRY[4:])],
    ids=["none", "a wrong one", "an empty one", "another scheme", "the hash itself"],
)
async def test_without_a_known_token_nothing_is_answered(
    serve: Serve, headers: dict[str, str]
) -> None:
    async with serve(**ON) as api:
        wire = await api.connect_tcp()
        for path in ("/healthz", "/v2", "/metrics", "/"):
            reply = await wire.call("GET", path, **headers)
            assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
            assert reply.json()["code"] == "caller.forbidden"


async def test_a_token_gives_its_role_and_no_more(serve: Serve) -> None:
    async with serve(**ON) as api:
        wire = await api.connect_tcp()
        assert (await wire.call("POST", INFER, BODY, **bearer(TOKEN))).status == 200
        assert (await wire.call("POST", INFER, BODY, **bearer(WATCHER))).status == 403
        assert (await wire.call("GET", "/v2", **bearer(WATCHER))).status == 200


async def test_each_request_needs_its_token_even_after_one_that_had_it(serve: Serve) -> None:
    """A connection earns nothing by what was sent on it before."""
    async with serve(**ON) as api:
        wire = await api.connect_tcp()
        for _ in range(3):
            assert (await wire.call("POST", INFER, BODY, **bearer(TOKEN))).status == 200
        assert (await wire.call("POST", INFER, BODY)).status == 401


async def test_the_unix_socket_needs_no_token(serve: Serve) -> None:
    async with serve(**ON) as api:
        assert (await api.call("POST", INFER, BODY)).status == 200


async def test_tls(serve: Serve, tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))
    async with serve(**ON, tls_certificate=certificate, tls_key=key) as api:
        wire = await api.connect_tcp(trusting)
        assert (await wire.call("POST", INFER, BODY, **bearer(TOKEN))).status == 200
        await wire.send(b"BROKEN\r\n\r\n")
        assert (await wire.reply()).status == 400
        assert await wire.ended()


def self_signed(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "tls.crt", directory / "tls.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def test_a_token_is_kept_only_as_its_hash() -> None:
    token, entry = issue(Role.OPERATOR)
    assert token not in entry
    caller = Tokens([entry], Account).caller(f"bearer {token}".encode())
    assert caller is not None
    assert caller.role is Role.OPERATOR


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"tcp": "127.0.0.1:8000"}, "tokens"),
        ({"tcp": "8000", "tokens": (ENTRY,)}, "tcp"),
        ({"tcp": "127.0.0.1:99999", "tokens": (ENTRY,)}, "tcp"),
        ({"tcp": "0.0.0.0:8000", "tokens": (ENTRY,)}, "tcp"),
        ({"tcp": "127.0.0.1:8000", "tokens": (ENTRY,), "tls_key": Path("k")}, "tls_key"),
        ({"tokens": ("app:secret",)}, "tokens[0]"),
    ],
    ids=["no token", "no host", "no such port", "in the clear", "half of TLS", "not hashed"],
)
def test_what_would_be_open_or_cannot_work_is_refused(
    changes: dict[str, object], where: str
) -> None:
    with pytest.raises(BadConfig) as caught:
        replace(ApiSettings(), **changes)
    assert caught.value.where == where
