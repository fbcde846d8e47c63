"""A key in a hardware token, SoftHSM here: it signs the request, and OpenSSL's provider the handshake."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from agent.errors import BadKey
from agent.identity.enrolment import Enrolment
from agent.identity.hardware import TokenKey, TokenUri
from agent.identity.settings import EnrolmentSettings
from tests.support.broker import mosquitto

MODULES = ("/usr/lib/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so")
PROVIDERS = (
    os.environ.get("TEST_OPENSSL_PROVIDER", ""),
    "/usr/lib/x86_64-linux-gnu/ossl-modules/pkcs11.so",
    "/usr/lib/aarch64-linux-gnu/ossl-modules/pkcs11.so",
    "/usr/lib64/ossl-modules/pkcs11.so",
)
PIN = "1234"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A fresh token named "edge"; its library."""
    found = next((path for path in MODULES if Path(path).exists()), None)
    if found is None or not shutil.which("softhsm2-util"):
        pytest.skip("no SoftHSM here (Debian: apt install softhsm2)")
    if importlib.util.find_spec("pkcs11") is None:
        pytest.skip("the extra pkcs11 is not installed")
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path}/tokens\nobjectstore.backend = file\n")
    monkeypatch.setenv("SOFTHSM2_CONF", str(config))
    command = [
        "softhsm2-util",
        "--init-token",
        "--free",
        "--label",
        "edge",
        "--pin",
        PIN,
        "--so-pin",
        PIN,
    ]
    subprocess.run(command, check=True, capture_output=True)
    return found


def in_a_process(function: str, *arguments: str) -> str:
    """SoftHSM reads its configuration once in a process, so each test has one of its own."""
    code = f"import sys; from tests.identity.test_hardware import {function}; {function}(*sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def uri(module: str, pin: str = PIN, key: str = "pump-7") -> str:
    return f"pkcs11:token=edge;object={key}?module-path={module}&pin-value={pin}"


def request_twice(module: str, folder: str) -> None:
    from agent.identity.folder import IdentityFolder

    settings = EnrolmentSettings(pkcs11=uri(module))
    enrolment = Enrolment(settings, "pump-7", IdentityFolder(Path(folder)))
    first, second = (x509.load_pem_x509_csr(enrolment.request()) for _ in range(2))
    assert first.is_signature_valid
    assert first.public_key() == second.public_key()
    assert first.subject.rfc4514_string() == "CN=pump-7"


def test_the_token_makes_the_key_and_signs_the_request(module, tmp_path):
    in_a_process("request_twice", module, str(tmp_path / "identity"))
    kept = (tmp_path / "identity" / "pending.key").read_bytes()
    assert b"PRIVATE KEY" not in kept
    assert kept.startswith(b"-----BEGIN PKCS#11 PROVIDER URI-----")


def use_badly(module: str) -> None:
    for bad in (uri(module, pin="9999"), uri("/nowhere.so"), uri(module).replace("edge", "other")):
        with pytest.raises(BadKey):
            TokenKey(bad).request("pump-7")


def test_a_wrong_pin_module_or_token_is_refused(module):
    in_a_process("use_badly", module)


@pytest.mark.parametrize("text", ["pkcs11:", "pkcs11:token=x", "file:/key", "pkcs11:object=y", ""])
def test_a_uri_that_names_no_key_is_refused(text):
    with pytest.raises(BadKey, match="PKCS#11 URI"):
        TokenUri(text)


def test_the_pin_may_come_from_a_file_and_never_reaches_the_reference(tmp_path):
    (tmp_path / "pin").write_text("4321\n")
    named = TokenUri(f"pkcs11:token=a%20b;object=c?pin-source=file:{tmp_path}/pin")
    assert (named.token, named.object, named.pin) == ("a b", "c", "4321")
    assert b"4321" not in named.pem
    missing = TokenUri("pkcs11:token=a;object=c?pin-source=/nowhere")
    with pytest.raises(BadKey, match="the PIN cannot be read"):
        missing.pin  # noqa: B018


def enrol_and_connect(module: str, folder: str, est: str, ca: str, port: str) -> None:
    """Enrol with the token's key, then connect to a broker that asks for a certificate."""
    import asyncio

    from agent.clock import SystemClock
    from agent.identity.folder import IdentityFolder
    from agent.sync.link import Link, LinkSettings
    from tests.support.authority import USER

    password = Path(folder).parent / "password"
    settings = EnrolmentSettings(
        est=est, ca_file=Path(ca), username=USER, password_file=password, pkcs11=uri(module)
    )
    identity = IdentityFolder(Path(folder))
    enrolment = Enrolment(settings, "pump-7", identity)
    enrolment.enroll()
    enrolment.renew()  # shown by the certificate whose key is in the token

    async def connect() -> None:
        link = Link(
            LinkSettings(
                brokers=(f"mqtts://127.0.0.1:{port}",),
                ca_file=Path(ca),
                certificate_file=identity.certificate_file,
                key_file=identity.key_file,
            ),
            clock=SystemClock(),
        )
        link.start()
        async with asyncio.timeout(20):
            while not link.connected:
                assert link.reason is None, link.reason
                await asyncio.sleep(0.02)
        await link.close()

    asyncio.run(connect())
    print("connected", flush=True)
    os._exit(0)


def test_a_broker_that_asks_for_a_certificate_is_shown_one_whose_key_is_in_the_token(
    module, ca, tmp_path, monkeypatch
):
    provider = next((path for path in PROVIDERS if path and Path(path).exists()), None)
    if provider is None:
        pytest.skip("no OpenSSL provider for PKCS#11 here (Debian 13: apt install pkcs11-provider)")
    from tests.support.authority import PASSWORD
    from tests.support.broker import free_port

    (tmp_path / "password").write_text(PASSWORD)
    (tmp_path / "openssl.cnf").write_text(OPENSSL.format(provider=provider, module=module, pin=PIN))
    monkeypatch.setenv("OPENSSL_CONF", str(tmp_path / "openssl.cnf"))
    port = free_port()
    config = (
        f"listener {port} 127.0.0.1\ncafile {ca.ca_file}\ncertfile {ca.directory}/server.pem\n"
        f"keyfile {ca.directory}/server.key\nrequire_certificate true\n"
    )
    with mosquitto(tmp_path / "broker", config):
        arguments = (module, str(tmp_path / "identity"), ca.url, str(ca.ca_file), str(port))
        assert "connected" in in_a_process("enrol_and_connect", *arguments)


OPENSSL = """\
openssl_conf = init
[init]
providers = providers
[providers]
default = default_section
pkcs11 = pkcs11_section
[default_section]
activate = 1
[pkcs11_section]
module = {provider}
pkcs11-module-path = {module}
pkcs11-module-token-pin = {pin}
activate = 1
"""
