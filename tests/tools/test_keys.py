"""Key files: protected, or refused."""

from pathlib import Path

import pytest

from agent.errors import BadKey
from tools.fleet.keys import KeyStore, Scheme


@pytest.fixture
def store(tmp_path: Path) -> KeyStore:
    return KeyStore(tmp_path / "keys", lambda _: b"correct horse")


def only(tmp_path: Path) -> Path:
    (path,) = (tmp_path / "keys").iterdir()
    return path


@pytest.mark.parametrize("scheme", ["ed25519", "ecdsa"])
def test_a_key_signs_what_its_public_half_verifies(store: KeyStore, scheme: Scheme) -> None:
    key = store.generate("targets", scheme)
    key.verify_signature(store.signer(key).sign(b"payload"), b"payload")


def test_a_key_file_is_encrypted_and_for_its_owner_only(store: KeyStore, tmp_path: Path) -> None:
    key = store.generate("targets")
    path = only(tmp_path)
    assert path.name == f"targets-{key.keyid[:8]}.pem"
    assert b"ENCRYPTED PRIVATE KEY" in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_another_passphrase_is_refused(store: KeyStore, tmp_path: Path) -> None:
    key = store.generate("targets")
    with pytest.raises(BadKey, match="wrong passphrase"):
        KeyStore(tmp_path / "keys", lambda _: b"battery staple").signer(key)
    with pytest.raises(BadKey, match="none was given"):
        KeyStore(tmp_path / "keys").signer(key)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_may_read_is_refused(store: KeyStore, tmp_path: Path, mode: int) -> None:
    key = store.generate("targets")
    only(tmp_path).chmod(mode)
    with pytest.raises(BadKey, match="read by others") as caught:
        store.signer(key)
    assert caught.value.hint == f"Run: chmod 600 {only(tmp_path)}"


def test_a_key_that_is_elsewhere_is_named(store: KeyStore, tmp_path: Path) -> None:
    key = store.generate("root")
    only(tmp_path).unlink()
    assert not store.has(key)
    with pytest.raises(BadKey, match=key.keyid[:8]):
        store.signer(key)


@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 100])
def test_a_damaged_key_is_refused(store: KeyStore, tmp_path: Path, content: bytes) -> None:
    key = store.generate("targets")
    only(tmp_path).write_bytes(content)
    with pytest.raises(BadKey, match="damaged"):
        store.signer(key)


def test_the_file_of_another_key_is_refused(store: KeyStore, tmp_path: Path) -> None:
    key = store.generate("targets")
    path = only(tmp_path)
    other = store.generate("targets")
    path.with_name(f"targets-{other.keyid[:8]}.pem").replace(path)
    with pytest.raises(BadKey, match="cannot be used"):
        store.signer(key)
