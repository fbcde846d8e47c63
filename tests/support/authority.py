"""A small certificate authority that speaks EST (RFC 7030) over real TLS, and can misbehave."""

import base64
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.serialization import pkcs7

from tests.support.certificates import make_certificates

USER, PASSWORD = "factory", "let me in"


@dataclass
class Authority:
    """The authority's behaviour, and what it saw.

    Attributes:
        directory: ca.pem, and a server's certificate for 127.0.0.1.
        days: of validity of what it signs.
        status: what it answers with instead of signing; 200 signs.
        answer: what it answers with instead of certificates.
        other_key: sign a key that was not asked for.
        seen: operation, and the subject of the client's certificate or "".
    """

    directory: Path
    days: float = 30.0
    status: int = 200
    answer: bytes | None = None
    other_key: bool = False
    seen: list[tuple[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}/.well-known/est"

    @property
    def ca_file(self) -> Path:
        return self.directory / "ca.pem"

    def sign(self, request: x509.CertificateSigningRequest) -> x509.Certificate:
        """A certificate for a request, by the authority's key."""
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        key = serialization.load_pem_private_key((self.directory / "ca.key").read_bytes(), None)
        public = ca.public_key() if self.other_key else request.public_key()
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            ca.subject, request.subject, public, x509.random_serial_number(),
            now - timedelta(minutes=1), now + timedelta(days=self.days),
        )  # fmt: skip
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.public_key())
        subject = x509.SubjectKeyIdentifier.from_public_key(public)
        for identifier in (issuer, subject):  # Python 3.13 wants both
            builder = builder.add_extension(identifier, critical=False)
        return builder.sign(key, hashes.SHA256())

    def answer_to(self, body: bytes) -> bytes:
        """The body of an answer to a request in base64 DER."""
        if self.answer is not None:
            return self.answer
        request = x509.load_der_x509_csr(base64.b64decode(body))
        assert request.is_signature_valid
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        bundle = [ca, self.sign(request)]  # the device's is not always the first
        der = pkcs7.serialize_certificates(bundle, serialization.Encoding.DER)
        return base64.encodebytes(der)


@contextmanager
def authority(directory: Path) -> Iterator[Authority]:
    """A running authority."""
    directory.mkdir(parents=True, exist_ok=True)
    files = make_certificates(directory)
    made = Authority(directory)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            operation = self.path.rpartition("/")[2]
            shown = dict(
                pair[0] for pair in (self.connection.getpeercert() or {}).get("subject", ())
            )
            made.seen.append((operation, shown.get("commonName", "")))
            token = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            known = shown or self.headers.get("Authorization") == f"Basic {token}"
            self.respond(made.status if known else 401, made.answer_to(body) if known else b"who?")

        def respond(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 202:
                self.send_header("Retry-After", "120")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files["ca"])
    context.load_cert_chain(files["server"], files["server_key"])
    context.verify_mode = ssl.CERT_OPTIONAL
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
