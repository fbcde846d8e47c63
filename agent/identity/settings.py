"""Where the device's certificate comes from."""

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from agent.errors import BadConfig
from agent.ranges import check_range


@dataclass(frozen=True, slots=True)
class EnrolmentSettings:
    """The certificate authority that signs and renews the device's certificate.

    Attributes:
        est: address of an EST server (RFC 7030), https://ca.example/.well-known/est; empty when
            certificates come by hand.
        ca_file: certificates to trust for it instead of the system's, PEM.
        username: for the first enrolment; renewals show the certificate itself.
        password_file: file whose first line is the password.
        pkcs11: the key lives in a hardware token, a URI by RFC 7512; empty for a key in a file.
        renew_share: renew when less than this share of the certificate's lifetime is left.
        retry_s: after a renewal that failed, seconds.
    """

    est: str = ""
    ca_file: Path | None = None
    username: str = ""
    password_file: Path | None = None
    pkcs11: str = ""
    renew_share: float = 0.33
    retry_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.est:
            check_address(self.est)
        if self.pkcs11 and not self.pkcs11.startswith("pkcs11:"):
            raise BadConfig(
                "must be a PKCS#11 URI, such as pkcs11:token=edge;object=pump-7", where="pkcs11"
            )
        check_range("renew_share", self.renew_share, 0.01, 0.9)
        check_range("retry_s", self.retry_s, 1, 7 * 86_400)


def check_address(url: str) -> None:
    """Raises BadConfig unless it is the address of an EST server."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment:
        raise BadConfig(
            f"{url!r} is not the address of an EST server",
            where="est",
            hint="Write https://ca.example/.well-known/est",
        )
