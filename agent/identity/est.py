"""Enrolment over Secure Transport (RFC 7030): a request goes up, a certificate comes down."""

import base64
import binascii
import http.client
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.errors import AgentError, BadConfig, EnrolmentRefused, NotReachable, NotReady

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateSigningRequest

TIMEOUT_S = 30.0  # for each of connecting and the answer
MAX_ANSWER = 256 * 1024  # bytes
MAX_EXPLANATION = 300  # characters of a server's own words


@dataclass(frozen=True, slots=True)
class Credentials:
    """How the device shows who it is.

    Attributes:
        username, password: at its first enrolment; empty for none.
        certificate_file, key_file: at a renewal.
    """

    username: str = ""
    password: str = ""
    certificate_file: Path | None = None
    key_file: Path | None = None


class EstClient:
    """One EST server.

    Args:
        url: https://host[:port]/.well-known/est[/label].
        ca_file: certificates to trust instead of the system's.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        parts = urlsplit(url)
        self.where = url
        self._address = (parts.hostname or "", parts.port or 443)
        self._path = parts.path.rstrip("/")
        self._ca_file = ca_file

    def enroll(
        self, request: "CertificateSigningRequest", credentials: Credentials, *, again: bool = False
    ) -> "list[Certificate]":
        """Ask for a certificate. Blocks.

        Args:
            request: signed with the new key.
            credentials: who asks.
            again: a renewal, shown by the old certificate.

        Raises:
            EnrolmentRefused: the authority says no.
            NotReady: it has not decided yet.
            NotReachable: it does not answer, or not in a way that is understood.
        """
        from cryptography.hazmat.primitives.serialization import Encoding

        body = base64.encodebytes(request.public_bytes(Encoding.DER))
        operation = "simplereenroll" if again else "simpleenroll"
        status, headers, answer = self._post(f"{self._path}/{operation}", body, credentials)
        if status == 202:
            after = headers.get("Retry-After", "later")
            raise NotReady(
                "the authority has not decided yet",
                where=self.where,
                hint=f"Repeat the same command; it names {after} as the time to wait",
            )
        if status != 200:
            raise self._refusal(status, answer)
        return self._certificates(answer)

    def _post(
        self, path: str, body: bytes, credentials: Credentials
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        headers = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
        if credentials.username:
            pair = f"{credentials.username}:{credentials.password}".encode()
            headers["Authorization"] = "Basic " + base64.b64encode(pair).decode()
        host, port = self._address
        context = self._context(credentials)
        connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)
        try:
            connection.request("POST", path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, self._read(response)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", "") or str(error) or type(error).__name__
            raise NotReachable(f"does not answer: {reason}", where=self.where) from error
        finally:
            connection.close()

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        data = response.read(MAX_ANSWER + 1)
        if len(data) > MAX_ANSWER:
            raise NotReachable(f"its answer is longer than {MAX_ANSWER} bytes", where=self.where)
        return data

    def _context(self, credentials: Credentials) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except OSError as error:
            where = str(self._ca_file)
            raise BadConfig(f"cannot be read: {error.strerror or error}", where=where) from error
        if credentials.certificate_file and credentials.key_file:
            try:
                context.load_cert_chain(credentials.certificate_file, credentials.key_file)
            except OSError as error:
                where = str(credentials.certificate_file)
                raise BadConfig(f"cannot be used: {error}", where=where) from error
        return context

    def _refusal(self, status: int, answer: bytes) -> AgentError:
        words = " ".join(answer.decode(errors="replace").split())[:MAX_EXPLANATION]
        explained = f": {words}" if words and "<" not in words else ""
        if status in {401, 403}:
            hint = "Check the user and password, or the certificate that is shown"
            return EnrolmentRefused(
                f"the authority does not accept who asks{explained}", where=self.where, hint=hint
            )
        if status < 500:
            return EnrolmentRefused(
                f"the authority refused, HTTP status {status}{explained}", where=self.where
            )
        return NotReachable(f"HTTP status {status}{explained}", where=self.where)

    def _certificates(self, answer: bytes) -> "list[Certificate]":
        """Certificates in base64 of a PKCS#7 without content (RFC 7030, section 4.2.3)."""
        from cryptography.hazmat.primitives.serialization import pkcs7

        try:
            return pkcs7.load_der_pkcs7_certificates(base64.b64decode(answer))
        except (ValueError, binascii.Error) as error:
            raise NotReachable("its answer holds no certificates", where=self.where) from error
