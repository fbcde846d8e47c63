"""The steps from no certificate to one, and from one to the next."""

from pathlib import Path
from typing import TYPE_CHECKING

from agent.errors import BadConfig
from agent.identity.est import Credentials, EstClient
from agent.identity.folder import IdentityFolder
from agent.identity.hardware import TokenKey
from agent.identity.keys import DeviceKey, FileKey
from agent.identity.request import chain_for, encode_pem, read_certificates
from agent.identity.settings import EnrolmentSettings

if TYPE_CHECKING:
    from cryptography.x509 import Certificate, CertificateSigningRequest


class Enrolment:
    """One device's enrolment. Every method blocks: it reads files, asks a token or an authority.

    Args:
        settings: where certificates come from.
        device: the device's name, the subject of its certificate.
        folder: where key and certificate are kept.
    """

    def __init__(self, settings: EnrolmentSettings, device: str, folder: IdentityFolder) -> None:
        self.settings = settings
        self.folder = folder
        self._device = device

    def request(self) -> bytes:
        """Make a key, keep it, and return the request for its certificate, PEM.

        Asked again before the certificate has come, it is the same key: what is already on its way to
        an authority stays good.

        Raises:
            BadKey, EngineMissing, StorageFailed: the key cannot be made or kept.
        """
        return encode_pem(self._pending().request(self._device))

    def accept(self, certificates: bytes, where: str) -> "Certificate":
        """Take the certificate that answers the request.

        Args:
            certificates: PEM; the device's own and, if need be, those up to the authority.
            where: what to call them in an error.

        Raises:
            NotFound: nothing was requested.
            BadKey: none of them is of the requested key.
            StorageFailed: the pair cannot be written.
        """
        self.folder.pending()
        key = self._pending()
        request = key.request(self._device)
        return self._adopt(key, request, read_certificates(certificates, where), where)

    def enroll(self) -> "Certificate":
        """Get a first certificate from the authority.

        Raises:
            BadConfig: no authority is configured.
            EnrolmentRefused, NotReady, NotReachable: as `EstClient.enroll`.
        """
        credentials = Credentials(self.settings.username, _password(self.settings.password_file))
        return self._ask(self._pending(), credentials, again=False)

    def renew(self) -> "Certificate":
        """Get the next certificate, shown by the present one; a key in a file is renewed with it.

        Raises:
            As `enroll`.
        """
        credentials = Credentials(
            certificate_file=self.folder.certificate_file, key_file=self.folder.key_file
        )
        return self._ask(self._pending(), credentials, again=True)

    def current(self) -> "Certificate":
        """The certificate in use. Raises BadKey when it cannot be read."""
        path = self.folder.certificate_file
        try:
            return read_certificates(path.read_bytes(), str(path))[0]
        except OSError as error:
            raise BadConfig(f"cannot be read: {error.strerror}", where=str(path)) from error

    def _ask(self, key: DeviceKey, credentials: Credentials, *, again: bool) -> "Certificate":
        if not self.settings.est:
            hint = 'Set est = "https://…" under [enrolment], or use --request and --certificate'
            raise BadConfig(
                "no certificate authority is configured", where="enrolment.est", hint=hint
            )
        authority = EstClient(self.settings.est, self.settings.ca_file)
        request = key.request(self._device)
        found = authority.enroll(request, credentials, again=again)
        return self._adopt(key, request, found, self.settings.est)

    def _pending(self) -> DeviceKey:
        """The key that a certificate is asked for: in the token, or made and kept in a file."""
        if self.settings.pkcs11:
            token = TokenKey(self.settings.pkcs11)
            self.folder.keep_pending(token.pem)
            return token
        path = self.folder.pending_file
        if path.exists():
            return FileKey.read(path)
        key = FileKey.make()
        self.folder.keep_pending(key.pem)
        return key

    def _adopt(
        self,
        key: DeviceKey,
        request: "CertificateSigningRequest",
        found: "list[Certificate]",
        where: str,
    ) -> "Certificate":
        chain = chain_for(request, found, where)
        self.folder.adopt(key.pem, b"".join(map(encode_pem, chain)))
        return chain[0]


def _password(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"cannot be read: {error}", where=str(path)) from error
