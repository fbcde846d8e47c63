"""The request for a certificate, and whether what came back answers it."""

from typing import TYPE_CHECKING

from agent.errors import BadKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, CertificateSigningRequest

MAX_BYTES = 256 * 1024  # of certificates that are read


def signing_request(key: "EllipticCurvePrivateKey", device: str) -> "CertificateSigningRequest":
    """A PKCS#10 request for the device's name, for TLS as a client (RFC 2986)."""
    from cryptography import x509
    from cryptography.hazmat.primitives.hashes import SHA256

    usage = x509.ExtendedKeyUsage([x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH])
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, device)]))
        .add_extension(usage, critical=False)
        .sign(key, SHA256())
    )


def encode_pem(item: "Certificate | CertificateSigningRequest") -> bytes:
    """A certificate or a request as PEM."""
    from cryptography.hazmat.primitives.serialization import Encoding

    return item.public_bytes(Encoding.PEM)


def chain_for(
    request: "CertificateSigningRequest", found: "list[Certificate]", where: str
) -> "list[Certificate]":
    """The device's certificate first, then the others in the order given.

    Args:
        request: whose key it must be of.
        found: in any order.
        where: what to call them in an error.

    Raises:
        BadKey: none of them is this key's.
    """
    public = request.public_key()
    mine = [certificate for certificate in found if certificate.public_key() == public]
    if not mine:
        raise BadKey("holds no certificate of this device's key", where=where)
    newest = max(mine, key=lambda certificate: certificate.not_valid_after_utc)
    return [newest, *(c for c in found if c not in mine)]


def read_certificates(data: bytes, where: str) -> "list[Certificate]":
    """Certificates in PEM.

    Raises:
        BadKey: there is none, or too much.
    """
    from cryptography import x509

    if len(data) > MAX_BYTES:
        raise BadKey(f"has {len(data)} bytes, {MAX_BYTES} are allowed", where=where)
    try:
        return x509.load_pem_x509_certificates(data)
    except ValueError as error:
        raise BadKey("holds no certificate in PEM", where=where) from error
