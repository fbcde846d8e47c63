"""Keys that are in a hardware token (SoftHSM stands for one) or a cloud, through the command."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest

from agent.errors import BadKey
from tests.support.packages import small_package
from tests.tools.test_cli import Workstation, follow
from tools.fleet.keys import KeyStore
from tools.fleet.keystores import import_key, is_address

PIN = "1234"
MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)


@pytest.fixture
def token(tmp_path: Path) -> Workstation:
    """A workstation with a token "fleet" that holds the P-256 keys 1 to 4 and no other."""
    module = next((path for path in MODULES if Path(path).exists()), None)
    if module is None or not shutil.which("softhsm2-util"):
        pytest.skip("no SoftHSM here (Debian: apt install softhsm2)")
    if importlib.util.find_spec("pkcs11") is None:
        pytest.skip("the extra pkcs11 is not installed")
    (tmp_path / "tokens").mkdir()
    config = tmp_path / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nlog.level = ERROR\n")
    workstation = Workstation(tmp_path)
    workstation.environment |= {
        "SOFTHSM2_CONF": str(config), "PYKCS11LIB": module, "EDGE_FLEET_PIN": PIN
    }  # fmt: skip
    make_token(workstation, range(1, 5))
    return workstation


def make_token(workstation: Workstation, ids: range) -> None:
    def run(*command: str) -> None:
        subprocess.run(
            command, env=workstation.environment, cwd=workstation.directory, check=True,
            capture_output=True,
        )  # fmt: skip

    run(
        "softhsm2-util", "--init-token", "--free", "--label", "fleet", "--pin", PIN, "--so-pin", PIN
    )
    for number in ids:
        run("openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-out", "key.pem")  # fmt: skip
        run("softhsm2-util", "--import", "key.pem", "--token", "fleet", "--label", f"key{number}",
            "--id", f"{number:02x}", "--pin", PIN)  # fmt: skip
        (workstation.directory / "key.pem").unlink()


def test_every_key_of_a_repository_in_a_token(token: Workstation) -> None:
    """From init to a device that loads the model, and no key file anywhere."""
    roles = {"root": 1, "targets": 2, "snapshot": 3, "timestamp": 4}
    options = (f"--key={role}=hsm:{number}" for role, number in roles.items())
    token.run("init", *options)
    small_package(token.directory / "negator")
    token.run("publish", "negator")
    token.run("refresh")
    keys = sorted(path.name for path in (token.directory / "keys").iterdir())
    assert [name.split("-")[0] for name in keys] == sorted(roles)
    assert all(name.endswith(".uri") for name in keys)
    assert "hsm:2?label=fleet" in (token.directory / "keys" / keys[2]).read_text()
    assert token.inspect()["targets"]["at_hand"] == token.inspect()["targets"]["keys"]
    device = token.device()
    assert device.install(token.address, "negator").active
    assert device.open("negator").ref.version == "1.0.0"


def test_keys_move_from_files_into_a_token(token: Workstation) -> None:
    token.run("init")
    small_package(token.directory / "negator")
    token.run("publish", "negator")
    device = token.device()
    device.install(token.address, "negator")
    assert "no longer trusted" in token.run("key", "rotate", "targets", "--key", "hsm:2")
    token.run("key", "add", "root", "--key", "hsm:1?label=fleet")
    token.run("delegate", "vision", "vision-*", "--key", "hsm:3")
    small_package(token.directory / "vision-eye", name="vision-eye")
    token.run("publish", "vision-eye", "--role", "vision")
    device.refresh(token.address)
    assert device.open("negator").ref.version == "1.0.0"
    assert device.install(token.address, "vision-eye").active


def test_the_page_on_keys_in_tokens(token: Workstation) -> None:
    follow(token, "Keys that never leave where they are")
    small_package(token.directory / "negator")
    token.run("publish", "negator")
    assert token.device().install(token.address, "negator").active


def test_a_wrong_pin_is_an_error_and_publishes_nothing(token: Workstation) -> None:
    token.run("init", "--key", "targets=hsm:2")
    small_package(token.directory / "negator")
    token.environment["EDGE_FLEET_PIN"] = "0000"
    shown = token.run("publish", "negator", status=2)
    assert "PinIncorrect" in shown
    assert "[key.invalid]" in shown
    del token.environment["EDGE_FLEET_PIN"]
    assert "EDGE_FLEET_PIN" in token.run("publish", "negator", status=2)
    token.environment["EDGE_FLEET_PIN"] = PIN
    token.run("publish", "negator")


WRONG = {
    "hsm:9": "could not find",
    "hsm:2?label=other": "label other",
    "hsm:two": "cannot be used",
    "floppy:2": "not the address",
    "awskms:arn:aws:kms:eu:1:key/1": "securesystemslib[awskms]",
    "gcpkms:projects/p/cryptoKeyVersions/1": "securesystemslib[gcpkms]",
    "azurekms://vault.vault.azure.net/keys/k": "securesystemslib[azurekms]",
    "hv:key": "securesystemslib[vault]",
}


def test_an_address_that_leads_to_no_key_says_why_and_changes_nothing(token: Workstation) -> None:
    token.run("init")
    for address, words in WRONG.items():
        shown = token.run("key", "rotate", "targets", "--key", address, status=2)
        assert words in shown
        assert "[key.invalid]" in shown
    small_package(token.directory / "negator")
    token.run("publish", "negator")


def test_a_token_that_is_not_plugged_in(token: Workstation) -> None:
    token.run("init", "--key", "targets=hsm:2")
    small_package(token.directory / "negator")
    shutil.rmtree(token.directory / "tokens")
    (token.directory / "tokens").mkdir()
    assert "[key.invalid]" in token.run("publish", "negator", status=2)


def test_without_the_tokens_library_the_error_names_the_variable(token: Workstation) -> None:
    del token.environment["PYKCS11LIB"]
    assert "PYKCS11LIB=" in token.run("init", "--key", "root=hsm:1", status=2)


@pytest.mark.parametrize("option", ["hsm:1", "nobody=hsm:1"])
def test_a_role_that_is_none_is_refused(token: Workstation, option: str) -> None:
    token.run("init", "--key", option, status=2)
    assert not (token.directory / "repository").exists()


def test_an_address_is_told_from_a_scheme() -> None:
    assert is_address("hsm:")
    assert not is_address("ecdsa")


@pytest.mark.parametrize("address", ["azurekms://vault/secrets/k", "azurekms:", "", "pem"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BadKey):
        import_key(address, lambda _: "")


def test_a_damaged_address_file_is_refused(tmp_path: Path) -> None:
    store = KeyStore(tmp_path)
    key = store.generate("targets")
    (path,) = tmp_path.iterdir()
    path.unlink()
    address = path.with_suffix(".uri")
    address.write_bytes(b"\0\xff\0")
    address.chmod(0o600)
    with pytest.raises(BadKey):
        store.signer(key)
