"""Keys that live in a PKCS#11 token and never leave it. The only file of the daemon that imports pkcs11.

The token signs the request for a certificate here. The TLS handshakes are OpenSSL's affair, which
reaches the token through a provider; what it is given as the key file is a reference in the form of
the provider (pkcs11-provider, "PKCS#11 PROVIDER URI" PEM).
"""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, unquote

import msgspec

from agent.errors import AgentError, BadKey, EngineMissing
from agent.identity.request import encode_pem, signing_request

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509 import CertificateSigningRequest

TOKEN_S = 60.0  # seconds that a token may take for a key and a signature
_LABEL = b"PKCS#11 Provider URI v1.0"
_VISIBLE, _UTF8, _SEQUENCE = 0x1A, 0x0C, 0x30


class TokenUri:
    """A PKCS#11 URI (RFC 7512), as far as a key is named by it.

    Args:
        uri: ``pkcs11:token=…;object=…[?module-path=…&pin-value=…|pin-source=file:…]``.

    Raises:
        BadKey: it is none, or names no token and object.
    """

    def __init__(self, uri: str) -> None:
        scheme, _, rest = uri.partition(":")
        path, _, query = rest.partition("?")
        parts = dict(part.split("=", 1) for part in path.split(";") if "=" in part)
        self.token, self.object = unquote(parts.get("token", "")), unquote(parts.get("object", ""))
        if scheme != "pkcs11" or not (self.token and self.object):
            hint = (
                "Write pkcs11:token=edge;object=pump-7?module-path=/usr/lib/softhsm/libsofthsm2.so"
            )
            raise BadKey(
                "is not a PKCS#11 URI with a token and an object", where=uri[:200], hint=hint
            )
        self.options = dict(parse_qsl(query))
        self.path = path

    @property
    def module(self) -> str:
        """The token's library. Raises BadKey when neither the URI nor PKCS11_MODULE names one."""
        found = self.options.get("module-path") or os.environ.get("PKCS11_MODULE", "")
        if not found:
            hint = "Add ?module-path=… to the URI, or set PKCS11_MODULE"
            raise BadKey("the token's library is not named", where=f"pkcs11:{self.path}", hint=hint)
        return found

    @property
    def pin(self) -> str | None:
        """From the URI, the file it names, or PKCS11_PIN. Raises BadKey."""
        if "pin-value" in self.options:
            return self.options["pin-value"]
        source = self.options.get("pin-source", "").removeprefix("file:")
        if not source:
            return os.environ.get("PKCS11_PIN")
        try:
            return Path(source).read_text(encoding="utf-8").split("\n", 1)[0]
        except OSError as error:
            raise BadKey(f"the PIN cannot be read: {error.strerror}", where=source) from error

    @property
    def pem(self) -> bytes:
        """A reference to the key in the form that OpenSSL's PKCS#11 provider reads; without the PIN."""
        uri = f"pkcs11:{self.path};type=private".encode()
        der = _der(_SEQUENCE, _der(_VISIBLE, _LABEL) + _der(_UTF8, uri))
        lines = base64.encodebytes(der).decode()
        kind = "PKCS#11 PROVIDER URI"
        return f"-----BEGIN {kind}-----\n{lines}-----END {kind}-----\n".encode()


class TokenKey:
    """A P-256 key in a token.

    The token's library is loaded in a process of its own: it is a vendor's native code, and its state
    (who is logged in) would be shared with OpenSSL's provider, which uses the same token for TLS.

    Args:
        uri: which.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self.pem = TokenUri(uri).pem

    def request(self, device: str) -> "CertificateSigningRequest":
        """A request that the token signs; the key is generated there if it is not yet.

        Raises:
            BadKey: a wrong PIN, module or token, or a token that does not do this.
            EngineMissing: the library is not installed.
        """
        from cryptography import x509

        asked = msgspec.json.encode({"uri": self._uri, "device": device})
        try:
            done = subprocess.run(
                [sys.executable, "-m", "agent.identity.hardware"],
                input=asked,
                capture_output=True,
                timeout=TOKEN_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise BadKey(f"the token does not answer within {TOKEN_S:g} s") from error
        if done.returncode == 0:
            return x509.load_pem_x509_csr(done.stdout)
        raise _verdict(done.stdout, done.stderr)


def _verdict(output: bytes, errors: bytes) -> AgentError:
    """The error that the process wrote, or that its library ended it."""
    try:
        fields = json.loads(output)
        kind = {error.code: error for error in (BadKey, EngineMissing)}[fields.pop("code")]
        return kind(**fields)
    except (ValueError, LookupError, TypeError):
        lines = errors.decode(errors="replace").strip().splitlines() or ["it said nothing"]
        return BadKey(f"the token's library failed: {lines[-1][:300]}")


def main() -> int:
    """The process: reads what is asked from standard input, writes a request or an error."""
    asked = json.loads(sys.stdin.buffer.read())
    try:
        uri = TokenUri(asked["uri"])
        with _session(uri) as session:
            if _find(session, uri.object) is None:
                _generate(session, uri.object)
            key = _signer(session, uri)
            pem = encode_pem(signing_request(key, asked["device"]))
    except AgentError as error:
        print(json.dumps(error.to_dict()), flush=True)
        return 1
    sys.stdout.buffer.write(pem)
    sys.stdout.flush()
    os._exit(0)  # before the library's own ending, which in some of them crashes


@contextmanager
def _session(uri: TokenUri) -> Iterator[Any]:
    try:
        import pkcs11
    except ImportError as error:
        hint = "pip install 'edge-agent[pkcs11]'"
        raise EngineMissing("python-pkcs11 is not installed", hint=hint) from error
    where = f"pkcs11:{uri.path}"
    try:
        token = pkcs11.lib(uri.module).get_token(token_label=uri.token)
        with token.open(rw=True, user_pin=uri.pin) as session:
            yield session
    except pkcs11.exceptions.PKCS11Error as error:
        words = str(error) or type(error).__name__
        raise BadKey(f"the token says: {words}", where=where) from error
    except (OSError, RuntimeError) as error:
        raise BadKey(f"the token's library cannot be used: {error}", where=where) from error


def _find(session: Any, label: str) -> Any:
    from pkcs11 import KeyType, ObjectClass
    from pkcs11.exceptions import NoSuchKey

    try:
        return session.get_key(
            object_class=ObjectClass.PRIVATE_KEY, key_type=KeyType.EC, label=label
        )
    except NoSuchKey:
        return None


def _generate(session: Any, label: str) -> None:
    from pkcs11 import Attribute, KeyType
    from pkcs11.util.ec import encode_named_curve_parameters

    curve = {Attribute.EC_PARAMS: encode_named_curve_parameters("secp256r1")}
    parameters = session.create_domain_parameters(KeyType.EC, curve, local=True)
    parameters.generate_keypair(store=True, label=label, id=label.encode()[:32])


def _public(session: Any, uri: TokenUri) -> "ec.EllipticCurvePublicKey":
    from cryptography.hazmat.primitives.serialization import load_der_public_key
    from pkcs11 import KeyType, ObjectClass
    from pkcs11.exceptions import NoSuchKey
    from pkcs11.util.ec import encode_ec_public_key

    try:
        found = session.get_key(
            object_class=ObjectClass.PUBLIC_KEY, key_type=KeyType.EC, label=uri.object
        )
    except NoSuchKey as error:
        message = "the private key has no public one beside it"
        raise BadKey(message, where=f"pkcs11:{uri.path}") from error
    return cast("ec.EllipticCurvePublicKey", load_der_public_key(encode_ec_public_key(found)))


def _signer(session: Any, uri: TokenUri) -> "ec.EllipticCurvePrivateKey":
    """A key in the form of `cryptography`, whose class is only known once that is imported."""
    from cryptography.hazmat.primitives.asymmetric import ec

    public, private = _public(session, uri), _find(session, uri.object)

    class Signer(ec.EllipticCurvePrivateKey):
        curve = public.curve
        key_size = public.key_size

        def sign(self, data: Any, signature_algorithm: Any) -> bytes:
            return _sign(private, bytes(data), signature_algorithm.algorithm)

        def public_key(self) -> ec.EllipticCurvePublicKey:
            return public

        def exchange(self, *_: Any) -> bytes:
            raise BadKey("the token's key only signs")

        def private_numbers(self) -> Any:
            raise BadKey("the key does not leave its token")

        def private_bytes(self, *_: Any) -> bytes:
            raise BadKey("the key does not leave its token")

        def __copy__(self) -> "Signer":
            return self

        def __deepcopy__(self, memo: Any) -> "Signer":
            return self

    return Signer()


def _sign(key: Any, data: bytes, algorithm: Any) -> bytes:
    from cryptography.hazmat.primitives.hashes import Hash
    from pkcs11 import Mechanism
    from pkcs11.util.ec import encode_ecdsa_signature

    digest = Hash(algorithm)
    digest.update(data)
    # The digest is made here: ECDSA over a digest is the one mechanism that every token has.
    return encode_ecdsa_signature(key.sign(digest.finalize(), mechanism=Mechanism.ECDSA))


def _der(tag: int, content: bytes) -> bytes:
    """One element of DER."""
    size = len(content)
    if size < 0x80:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


if __name__ == "__main__":
    sys.exit(main())
