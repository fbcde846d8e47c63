"""Signing keys at hand: in files, or by their address in a token or a cloud (`keystores`).

A key file is PKCS #8 PEM, encrypted with a passphrase, and readable by its owner only.

A key's file is named after its role and the beginning of its id, for example
``targets-1f3a9c04.pem``. A directory may hold some of a repository's keys and not others: the root
keys belong on a medium that is kept in a safe.
"""

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from agent.errors import BadKey
from agent.ids import short_key
from tools.fleet.keystores import Pin, import_key, is_address, open_signer

Private = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
Scheme = Literal["ed25519", "ecdsa"]
Passphrase = Callable[[str], "bytes | None"]

ADDRESS = ".uri"  # suffix of a file that holds a key's address and no key
OTHERS = stat.S_IRWXG | stat.S_IRWXO


def no_passphrase(_name: str) -> None:
    """For development keys, which protect nothing."""


def no_pin(_name: str) -> str:
    """For tokens that ask for none."""
    return ""


class KeyStore:
    """The keys in one directory: files, and addresses of keys that are elsewhere.

    Args:
        directory: made, for its owner only, with the first key.
        passphrase: asked with a file's name when a key is written, or an encrypted one is read;
            None writes the key unencrypted.
        pin: asked for by tokens.
    """

    def __init__(
        self, directory: Path, passphrase: Passphrase = no_passphrase, pin: Pin = no_pin
    ) -> None:
        self._directory = directory
        self._passphrase = passphrase
        self._pin = pin

    def obtain(self, role: str, origin: str) -> SSlibKey:
        """A key for a role: a new pair of a scheme, or the one that an address names.

        Raises:
            BadKey: the address leads to no key.
        """
        if not is_address(origin):
            return self.generate(role, cast("Scheme", origin))
        address, public = import_key(origin, self._pin)
        path = self._path(role, public.keyid).with_suffix(ADDRESS)
        if not path.exists():
            _write_private(path, f"{address}\n".encode())
        return public

    def generate(self, role: str, scheme: Scheme = "ed25519") -> SSlibKey:
        """A new key pair; its private half is written here, its public half returned."""
        private = (
            ed25519.Ed25519PrivateKey.generate()
            if scheme == "ed25519"
            else ec.generate_private_key(ec.SECP256R1())
        )
        public = SSlibKey.from_crypto(private.public_key())
        path = self._path(role, public.keyid)
        create_private(path, private, self._passphrase)
        return public

    def has(self, key: Key) -> bool:
        """Whether the private half of a public key is here."""
        return self._find(key.keyid) is not None

    def signer(self, key: Key) -> Signer:
        """The signer of a public key.

        Raises:
            BadKey: the file is missing, readable by others, damaged, of another key, or has another
                passphrase.
        """
        path = self._find(key.keyid)
        if path is None:
            raise BadKey(f"the key {short_key(key.keyid)} is not here", where=str(self._directory))
        if path.suffix == ADDRESS:
            return open_signer(_read_private(path).decode(errors="replace").strip(), key, self._pin)
        try:
            return CryptoSigner(load_private(path, self._passphrase), cast("SSlibKey", key))
        except (ValueError, UnsupportedAlgorithm) as error:
            raise BadKey(f"cannot be used: {error}", where=str(path)) from error

    def _path(self, role: str, keyid: str) -> Path:
        return self._directory / f"{role}-{short_key(keyid)}.pem"

    def _find(self, keyid: str) -> Path | None:
        found = sorted(self._directory.glob(f"*-{short_key(keyid)}.*"))
        return next((path for path in found if path.suffix in {".pem", ADDRESS}), None)


def create_private(path: Path, private: Private, passphrase: Passphrase) -> None:
    """Write a new key for its owner only, encrypted unless there is no passphrase."""
    secret = passphrase(path.name)
    encryption: KeySerializationEncryption = (
        BestAvailableEncryption(secret) if secret else NoEncryption()
    )
    _write_private(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))


def load_private(path: Path, passphrase: Passphrase) -> Private:
    """The key in a file.

    Raises:
        BadKey: it may be read by others, is damaged, or has another passphrase.
    """
    pem = _read_private(path)
    encrypted = b"ENCRYPTED" in pem
    secret = passphrase(path.name) if encrypted else None
    if encrypted and not secret:
        hint = "Set EDGE_FLEET_PASSPHRASE, or run the command in a terminal"
        raise BadKey("the key has a passphrase, and none was given", where=str(path), hint=hint)
    try:
        return load_pem_private_key(pem, secret)  # type: ignore[return-value]
    except ValueError as error:
        message = "wrong passphrase, or the file is damaged" if encrypted else "the file is damaged"
        raise BadKey(message, where=str(path)) from error


def _write_private(path: Path, pem: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & OTHERS:
                message = f"the key may be read by others (mode {mode:04o})"
                raise BadKey(message, where=str(path), hint=f"Run: chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise BadKey(f"cannot be read: {error.strerror}", where=str(path)) from error
