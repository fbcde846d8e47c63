"""The TUF client: what a repository says, as far as it is signed. The only file that imports tuf.

Two uses, with different libraries' parts and at different times:

- `Client`, at install and refresh: python-tuf's `ngclient.Updater` over one of our sources. It
  verifies root, timestamp, snapshot and targets, their expiry and their order. It never fetches a
  package's files: it says their length and digest, and the registry fetches them by content.
- `verify`, at every load, offline: the kept targets metadata is verified again, against the root
  that is trusted now. Expiry is deliberately not checked here: a device that lost its network must
  go on working for months with what it has.

What each of the library's exceptions means to us is one table, in `meanings`.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from agent.errors import (
    AgentError,
    Altered,
    BadRepository,
    NotFound,
    Unsigned,
)
from agent.trust.meanings import translated
from agent.trust.policy import Horizon, check_layout
from agent.trust.source import Source

if TYPE_CHECKING:
    from tuf.api.metadata import Metadata, TargetFile, Targets
    from tuf.ngclient import FetcherInterface, Updater

MAX_ROOT_ROTATIONS = 1024  # newer roots followed in one refresh
MAX_DELEGATIONS = 64  # roles asked for one file
LAYOUT_FIELD = "x-edge-agent-layout"  # in the top-level targets metadata, signed with it


@dataclass(frozen=True, slots=True)
class Target:
    """A signed file.

    Attributes:
        path: in its package, for example ``model.onnx``.
        size: bytes.
        sha256: digest, hexadecimal.
        location: in the repository.
    """

    path: str
    size: int
    sha256: str
    location: str


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a package was trusted: each signed document with the role it was signed for.

    Attributes:
        documents: root, then targets, then the delegated roles down to the one that lists the
            package's files.
    """

    documents: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Package:
    """A package as the repository signs it.

    Attributes:
        name, version: as in the targets' paths.
        targets: every file by its path in the package, the manifest among them.
        evidence: what signs them.
        signers: ids of the keys that do.
    """

    name: str
    version: str
    targets: Mapping[str, Target]
    evidence: Evidence
    signers: tuple[str, ...]


class Client:
    """One refreshed view of a repository.

    Args:
        source: where the repository is.
        cache: python-tuf's own directory; made when it is absent, mended when it is damaged.
        root: the provisioned root.
        now: the time at which expiry is judged, seconds since the epoch.

    Raises:
        Refused: unsigned, altered, expired or rolled back metadata.
        BadRepository: metadata that cannot be understood.
        NotReachable, NotFound: the source does not answer, or holds no repository.
        StorageFailed: the cache cannot be written.
    """

    def __init__(self, source: Source, cache: Path, root: bytes, now: float) -> None:
        self._cache = cache
        with translated("repository"):
            cache.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(cache)
            self._updater = _updater(source, cache, root, now)
            self._refresh()
            _make_durable(cache)

    @property
    def root(self) -> bytes:
        """The newest root, reached from the provisioned one by a chain of signatures."""
        return (self._cache / "root.json").read_bytes()

    def seen(self, wall: float) -> Horizon:
        """What was accepted, as a horizon at the wall time `wall`."""
        with translated("repository"):
            root = _read(self.root, "root").signed
            roles = (root.roles["timestamp"], root.roles["snapshot"])
            keys = sorted({keyid for role in roles for keyid in role.keyids})
            timestamp, snapshot = self._document("timestamp"), self._document("snapshot")
            return Horizon(wall, timestamp.version, snapshot.version, tuple(keys))

    def versions(self, name: str) -> list[str]:
        """Every published version of a model, in no order."""
        with translated(name):
            # Asking for a path that does not exist loads every role that could list the name.
            probe = f"{name}/-/model.toml"
            self._updater.get_targetinfo(probe)
            chains = self._chains(probe, (self._top(),))
            return sorted({v for chain in chains for v in _versions(chain[-1].signed, name)})

    def package(self, name: str, version: str) -> Package:
        """A published package.

        Raises:
            NotFound: no such version is published.
        """
        where = f"{name} {version}"
        manifest = f"{name}/{version}/model.toml"
        with translated(where):
            top = self._top()
            if self._updater.get_targetinfo(manifest) is None:
                raise NotFound("the repository has no such model", where=where)
            chains = self._chains(manifest, (top,))
            chain = next(c for c in chains if manifest in c[-1].signed.targets)
            targets = self._targets(chain[-1].signed, f"{name}/{version}/")
            documents = [(document.role, document.data) for document in chain]
            evidence = Evidence((("root", self.root), *documents))
            # By the rules of every later load, so that nothing is installed that could not be loaded.
            files = {path: (target.size, target.sha256) for path, target in targets.items()}
            signers = verify(self.root, evidence, files, f"{name}/{version}/")
            return Package(name, version, targets, evidence, signers)

    def find(self, path: str) -> Target | None:
        """One signed file by its whole path; None when no role that may sign it lists it."""
        with translated(path):
            found = self._updater.get_targetinfo(path)
            return None if found is None else self._target(found, "")

    def _refresh(self) -> None:
        from tuf.api.exceptions import DownloadError

        try:
            self._updater.refresh()
        except DownloadError as error:
            if isinstance(error.__cause__, NotFound):
                where, hint = error.__cause__.where, "It is what holds metadata/ and targets/"
                raise NotFound("there is no repository here", where=where, hint=hint) from error
            raise

    def _top(self) -> "_Document":
        """The top-level targets, if packages are named in this repository as we know it."""
        targets = self._document("targets")
        check_layout(targets.signed.unrecognized_fields.get(LAYOUT_FIELD))
        return targets

    def _document(self, role: str) -> "_Document":
        return _read((self._cache / f"{quote(role, '')}.json").read_bytes(), role)

    def _chains(
        self, path: str, chain: "tuple[_Document, ...]"
    ) -> "Iterator[tuple[_Document, ...]]":
        """Every chain of delegations for a path, in the order in which the client asks them."""
        yield chain
        delegations = chain[-1].signed.delegations
        for role, terminating in delegations.get_roles_for_target(path) if delegations else ():
            if role not in {document.role for document in chain}:
                with contextlib.suppress(FileNotFoundError):
                    yield from self._chains(path, (*chain, self._document(role)))
            if terminating:
                return

    def _targets(self, signed: "Targets", prefix: str) -> dict[str, Target]:
        """The files under a prefix, each of which the client must find just so."""
        targets = {}
        for path, listed in signed.targets.items():
            if path.startswith(prefix):
                found = self._updater.get_targetinfo(path)
                if found is None or found.hashes != listed.hashes:
                    raise BadRepository("one package is signed by two roles", where=path)
                targets[path.removeprefix(prefix)] = self._target(found, prefix)
        return targets

    def _target(self, info: "TargetFile", prefix: str) -> Target:
        sha256 = info.hashes.get("sha256")
        if sha256 is None:
            raise BadRepository("is listed without a SHA-256 digest", where=info.path)
        directory, separator, name = info.path.rpartition("/")
        digest = f"{sha256}." if _read(self.root, "root").signed.consistent_snapshot else ""
        location = f"targets/{directory}{separator}{digest}{name}"
        return Target(info.path.removeprefix(prefix), info.length, sha256, location)


def verify(
    root: bytes, evidence: Evidence, files: Mapping[str, tuple[int, str]], prefix: str
) -> tuple[str, ...]:
    """Verify a package's signed documents and its list of files again, offline.

    Args:
        root: the root that is trusted now.
        evidence: the documents that were kept when the package was installed.
        files: size and SHA-256 by path in the package.
        prefix: what the paths of the package's targets begin with.

    Returns:
        The ids of the keys whose signatures of the listing role are valid.

    Raises:
        Unsigned: a document lacks enough valid signatures of keys that the root trusts.
        Altered: a file is not listed, or is listed with another size or digest.
        BadRepository: a document cannot be understood.
    """
    with translated(prefix.rstrip("/")):
        chain = [_read(data, role) for role, data in evidence.documents if role != "root"]
        delegator: Any = _read(root, "root").signed
        signers: tuple[str, ...] = ()
        for document in chain:
            signers = _verify_document(delegator, document)
            delegator = document.signed
        for path, (size, sha256) in files.items():
            _verify_listed(chain, prefix + path, size, sha256)
        return signers


def check_root(data: bytes) -> None:
    """A root to provision must be a TUF root that signs itself.

    Raises:
        BadRepository: it is not; Unsigned: its own signatures do not hold.
    """
    with translated("root.json"):
        root = _read(data, "root")
        _verify_document(root.signed, root)


def verify_with_own_root(
    evidence: Evidence, files: Mapping[str, tuple[int, str]], prefix: str
) -> None:
    """As `verify`, with the root of the time of installation: tells revoked from never signed."""
    verify(dict(evidence.documents)["root"], evidence, files, prefix)


@dataclass(frozen=True, slots=True)
class _Document:
    """A parsed metadata file with the bytes it was parsed from."""

    role: str
    data: bytes
    metadata: "Metadata[Any]"

    @property
    def signed(self) -> Any:
        return self.metadata.signed

    @property
    def version(self) -> int:
        return int(self.metadata.signed.version)


def _read(data: bytes, role: str) -> _Document:
    metadata = _metadata_class().from_bytes(data)
    expected = role if role in {"root", "timestamp", "snapshot"} else "targets"
    if metadata.signed.type != expected:
        raise BadRepository(f"expected {expected} metadata, got {metadata.signed.type}", where=role)
    return _Document(role, data, metadata)


@cache
def _metadata_class() -> "type[Metadata[Any]]":
    from tuf.api.metadata import Metadata

    return Metadata


def _verify_document(delegator: Any, document: _Document) -> tuple[str, ...]:
    metadata = document.metadata
    delegator.verify_delegate(document.role, metadata.signed_bytes, metadata.signatures)
    result = delegator.get_verification_result(
        document.role, metadata.signed_bytes, metadata.signatures
    )
    return tuple(sorted(result.signed))


def _verify_listed(chain: Sequence[_Document], path: str, size: int, sha256: str) -> None:
    for parent, child in itertools.pairwise(chain):
        role = parent.signed.delegations.roles[child.role]
        if not role.is_delegated_path(path):
            raise Unsigned(f"the role {child.role} may not sign it", where=path)
    listed = chain[-1].signed.targets.get(path)
    if listed is None or (listed.length, listed.hashes.get("sha256")) != (size, sha256):
        raise Altered("is not what was signed", where=path)


def _versions(signed: "Targets", name: str) -> Iterator[str]:
    for path in signed.targets:
        parts = path.split("/")
        if len(parts) == 3 and parts[0] == name and parts[2] == "model.toml":
            yield parts[1]


def _updater(source: Source, cache: Path, root: bytes, now: float) -> "Updater":
    from tuf.ngclient import Updater, UpdaterConfig

    updater = Updater(
        str(cache),
        "metadata",
        fetcher=_fetcher(source),
        config=UpdaterConfig(
            max_root_rotations=MAX_ROOT_ROTATIONS, max_delegations=MAX_DELEGATIONS
        ),
        bootstrap=root,
    )
    # The library offers no argument for it; tests/trust/test_time.py fails should this ever change.
    updater._trusted_set.reference_time = datetime.fromtimestamp(now, UTC)  # noqa: SLF001
    return updater


def _fetcher(source: Source) -> "FetcherInterface":
    """python-tuf's fetcher over one of our sources."""
    from tuf.api.exceptions import DownloadError, DownloadHTTPError
    from tuf.ngclient import FetcherInterface

    class SourceFetcher(FetcherInterface):
        def _fetch(self, url: str) -> Iterator[bytes]:
            try:
                yield from source.read(url)
            except NotFound as error:
                raise DownloadHTTPError(str(error), 404) from error
            except AgentError as error:
                raise DownloadError(str(error)) from error

    return SourceFetcher()


def _remove_leftovers(cache: Path) -> None:
    """Temporary files of a client that was killed."""
    for path in cache.glob("tmp*"):
        path.unlink(missing_ok=True)


def _make_durable(cache: Path) -> None:
    """The library renames into place without fsync: after a power cut the files could be empty."""
    directories = (cache / "root_history", cache)
    for path in (*(f for d in directories for f in d.glob("*.json")), *directories):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
