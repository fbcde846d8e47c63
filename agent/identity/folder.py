"""The folder in which key and certificate change together.

A key and its certificate are two files, and a power cut falls between any two renames. So each pair
has a folder of its own, complete and synced before the link `current` is renamed onto it: whoever
opens `current/…` gets the old pair or the new one.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.errors import NotFound, StorageFailed

CURRENT, PENDING = "current", "pending.key"
KEY, CERTIFICATE = "device.key", "device.crt"


class IdentityFolder:
    """What is kept of the device's identity.

    Args:
        directory: made, for its owner alone, when something is first written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def key_file(self) -> Path:
        """The key in use, as PEM; a name that stays over renewals."""
        return self.directory / CURRENT / KEY

    @property
    def certificate_file(self) -> Path:
        """The certificate in use and what follows it up to the authority, as PEM; likewise."""
        return self.directory / CURRENT / CERTIFICATE

    @property
    def enrolled(self) -> bool:
        """Whether there is a pair."""
        return self.certificate_file.exists() and self.key_file.exists()

    @property
    def pending_file(self) -> Path:
        """The key whose certificate is awaited."""
        return self.directory / PENDING

    def keep_pending(self, pem: bytes) -> None:
        """Keep a key until its certificate comes. Raises StorageFailed."""
        with _told(self.directory):
            self._make()
            partial = self.directory / f"{PENDING}.new"
            _write(partial, pem)
            partial.replace(self.pending_file)
            _sync(self.directory)

    def pending(self) -> bytes:
        """The key whose certificate is awaited.

        Raises:
            NotFound: there is none.
        """
        try:
            return self.pending_file.read_bytes()
        except FileNotFoundError as error:
            raise NotFound(
                "no certificate was asked for",
                where=str(self.pending_file),
                hint="Begin with: edge-agent enroll --request device.csr",
            ) from error

    def adopt(self, key: bytes, certificates: bytes) -> None:
        """Make a pair the current one, whatever happens to the power. Raises StorageFailed."""
        with _told(self.directory):
            self._make()
            fresh = Path(tempfile.mkdtemp(prefix="pair-", dir=self.directory))
            _write(fresh / KEY, key)
            _write(fresh / CERTIFICATE, certificates)
            _sync(fresh)
            link = self.directory / f"{CURRENT}.new"
            link.unlink(missing_ok=True)
            link.symlink_to(fresh.name)
            link.replace(self.directory / CURRENT)
            _sync(self.directory)
            self.pending_file.unlink(missing_ok=True)
            self._sweep(fresh)

    def _sweep(self, kept: Path) -> None:
        for old in self.directory.glob("pair-*"):
            if old != kept:
                shutil.rmtree(old, ignore_errors=True)

    def _make(self) -> None:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)


def _write(path: Path, data: bytes) -> None:
    """A file for its owner alone, on the disk when this returns."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _told(where: Path) -> Iterator[None]:
    """What the file system says inside the block becomes an error of ours."""
    try:
        yield
    except OSError as error:
        raise StorageFailed(f"cannot be written: {error.strerror}", where=str(where)) from error
