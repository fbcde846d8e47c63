"""Private keys in files, readable by their owner alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agent.errors import BadKey
from agent.identity.request import signing_request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import CertificateSigningRequest


class DeviceKey(Protocol):
    """A private key, wherever it lives.

    Attributes:
        pem: what a TLS library loads: the key itself, or a reference to where it lives.
    """

    @property
    def pem(self) -> bytes: ...

    def request(self, device: str) -> "CertificateSigningRequest":
        """A request for a certificate of this key in the device's name, signed with it."""


class FileKey:
    """A P-256 key that is kept as PKCS#8 in a file.

    Args:
        key: of `cryptography`.
    """

    def __init__(self, key: "EllipticCurvePrivateKey") -> None:
        self._key = key

    @classmethod
    def make(cls) -> "FileKey":
        """A new key: P-256, which every broker, cloud and token knows."""
        from cryptography.hazmat.primitives.asymmetric import ec

        return cls(ec.generate_private_key(ec.SECP256R1()))

    @classmethod
    def read(cls, path: Path) -> "FileKey":
        """A key from a PEM file.

        Raises:
            BadKey: it cannot be read, others may read it, or it is no such key.
        """
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec

        try:
            mode = path.stat().st_mode
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise BadKey(f"cannot be read: {error.strerror}", where=str(path)) from error
        except (ValueError, TypeError) as error:
            raise BadKey(
                "is not a private key in PEM without a passphrase", where=str(path)
            ) from error
        if mode & 0o077:
            hint = f"chmod 600 {path}"
            raise BadKey("others may read it", where=str(path), hint=hint)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadKey("is not an elliptic-curve key", where=str(path))
        return cls(key)

    @property
    def pem(self) -> bytes:
        """PKCS#8, unencrypted: nobody is there to type a passphrase when a device starts."""
        from cryptography.hazmat.primitives.serialization import (
            Encoding,
            NoEncryption,
            PrivateFormat,
        )

        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def request(self, device: str) -> "CertificateSigningRequest":
        """A request for a certificate of this key."""
        return signing_request(self._key, device)
