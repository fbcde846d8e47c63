"""Files by content: each stored once, under its SHA-256, whatever packages hold it.

A download grows under `partial/` and is renamed into place when its length and digest are right;
one that was cut off goes on where it stopped. Reading verifies: the bytes that were hashed are the
bytes that are returned.
"""

import hashlib
import os
from collections.abc import Set as AbstractSet
from pathlib import Path

from agent.errors import Altered
from agent.registry.layout import check_space, storage, sync_directory, write_atomically
from agent.trust.digest import read_hashed, sha256_hex
from agent.trust.source import Source
from agent.trust.updater import Target

MAX_DOCUMENT_BYTES = 7 * 2**20  # of a blob whose size is not known: a signed document
DIGITS = 2  # of the digest that name a blob's directory


class BlobStore:
    """The blobs below one directory, which appears with the first of them."""

    def __init__(self, directory: Path) -> None:
        self._blobs = directory / "blobs"
        self._partial = directory / "partial"

    def path(self, sha256: str) -> Path:
        """Where a blob is, or would be."""
        return self._blobs / sha256[:DIGITS] / sha256

    def has(self, sha256: str, size: int) -> bool:
        """Whether a blob of this length is there; its content is verified by `read`."""
        try:
            return self.path(sha256).stat().st_size == size
        except OSError:
            return False

    def read(self, sha256: str, size: int = MAX_DOCUMENT_BYTES) -> bytes:
        """A blob's bytes, verified.

        Raises:
            Altered: it is missing, or its bytes are not those of its name.
        """
        path = self.path(sha256)
        try:
            with path.open("rb", buffering=0) as file:
                data, found = read_hashed(file, size)
        except FileNotFoundError as error:
            raise Altered("the file is missing", where=str(path)) from error
        except OSError as error:
            raise Altered(f"cannot be read: {error.strerror}", where=str(path)) from error
        if found != sha256:
            raise Altered("the file is not what was signed", where=str(path))
        return data

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest; nothing is written when they are there and whole."""
        sha256 = sha256_hex(data)
        path = self.path(sha256)
        if not (path.is_file() and path.read_bytes() == data):
            write_atomically(path, data)
        return sha256

    def fetch(self, source: Source, targets: "list[Target]") -> None:
        """Download what is missing of some signed files; what is there and whole stays.

        Raises:
            Altered: the repository's bytes are not those that were signed.
            StorageFailed: they do not fit on the disk.
            NotReachable: the source went away; the next try goes on from here.
        """
        missing = [target for target in targets if not self._is_whole(target)]
        with storage(self._partial):
            self._partial.mkdir(parents=True, exist_ok=True)
        check_space(self._partial, sum(t.size - self._have(t.sha256) for t in missing))
        for target in missing:
            self._download(source, target)

    def sweep(self, needed: AbstractSet[str]) -> None:
        """Remove the blobs that no state needs."""
        for path in self.orphans(needed):
            path.unlink(missing_ok=True)

    def orphans(self, needed: AbstractSet[str]) -> list[Path]:
        """The blobs that no state needs."""
        return [path for path in self._blobs.glob("*/*") if path.name not in needed]

    def discard_partial(self) -> None:
        """Remove downloads that were given up."""
        for path in self._partial.glob("*"):
            path.unlink(missing_ok=True)

    def _is_whole(self, target: Target) -> bool:
        try:
            self.read(target.sha256, target.size)
        except Altered:
            return False
        return True

    def _have(self, sha256: str) -> int:
        try:
            return (self._partial / sha256).stat().st_size
        except OSError:
            return 0

    def _download(self, source: Source, target: Target) -> None:
        partial = self._partial / target.sha256
        resumed = self._have(target.sha256) > 0
        if self._grow(source, target, partial) != target.sha256:
            partial.unlink(missing_ok=True)
            # What was left by a cut may itself be damaged: start over, once.
            if not resumed or self._grow(source, target, partial) != target.sha256:
                partial.unlink(missing_ok=True)
                raise Altered("the file is not what was signed", where=target.location)
        self._keep(partial, self.path(target.sha256))

    def _grow(self, source: Source, target: Target, partial: Path) -> str:
        """Append what is missing of a download; the digest of all of it, or "" when it is short."""
        with storage(partial), partial.open("a+b") as file:
            if file.seek(0, os.SEEK_END) > target.size:
                file.truncate(0)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256")
            room = target.size - file.tell()
            if room:
                for chunk in source.read(target.location, file.tell()):
                    room -= len(chunk)
                    if room < 0:
                        raise Altered(
                            "the file is longer than what was signed", where=target.location
                        )
                    digest.update(chunk)
                    file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        return "" if room else digest.hexdigest()

    @staticmethod
    def _keep(partial: Path, path: Path) -> None:
        with storage(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.replace(path)
            sync_directory(path.parent)
            sync_directory(path.parent.parent)
