"""A package's files on the workstation, and their way into the repository, in pieces of a few MiB."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Altered, BadManifest
from agent.registry.layout import storage, sync_directory
from agent.trust.manifest import MAX_BYTES, Manifest, parse_manifest

_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class PackedFile:
    """A file of a package.

    Attributes:
        path: where it is now.
        size: bytes.
        sha256: hexadecimal.
    """

    path: Path
    size: int
    sha256: str


def read_package(package: Path) -> tuple[Manifest, dict[str, PackedFile]]:
    """A package's manifest and all its files by path, each compared with the manifest.

    Raises:
        BadManifest: the manifest is missing or wrong. Altered: a file is not what it says.
    """
    path = package / "model.toml"
    files = {"model.toml": _examined(path)}
    with path.open("rb") as file:
        manifest = parse_manifest(file.read(MAX_BYTES + 1), where=str(path))
    for listed in manifest.files:
        found = files[listed.path] = _examined(package / listed.path)
        if (found.size, found.sha256) != (listed.size, listed.sha256):
            raise Altered("is not what the manifest says", where=str(found.path))
    return manifest, files


def copy_durably(file: PackedFile, destination: Path) -> None:
    """Put a file in place, whole or not at all; nothing is written where it is already.

    Raises:
        Altered: it has changed since it was examined. StorageFailed: the disk is full or failing.
    """
    if destination.exists() and _examined(destination).sha256 == file.sha256:
        return
    temporary = destination.with_name(f"{destination.name}.new")
    digest = hashlib.sha256()
    with storage(destination):
        destination.parent.mkdir(parents=True, exist_ok=True)
        with file.path.open("rb") as source, temporary.open("wb") as target:
            while chunk := source.read(_CHUNK_BYTES):
                digest.update(chunk)
                target.write(chunk)
            target.flush()
            os.fsync(target.fileno())
        if digest.hexdigest() != file.sha256:
            temporary.unlink()
            raise Altered("changed while it was published", where=str(file.path))
        temporary.replace(destination)
        sync_directory(destination.parent)


def _examined(path: Path) -> PackedFile:
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            return PackedFile(path, file.tell(), sha256)
    except OSError as error:
        raise BadManifest(f"cannot be read: {error.strerror}", where=str(path)) from error
