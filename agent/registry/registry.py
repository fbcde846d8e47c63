"""The models of this device: installed, verified, activated.

On disk, below one directory:

    root.json                     the provisioned root, as it was given
    state.json, state.copy.json   everything that is decided, twice (`state`)
    blobs/<aa>/<sha256>           files of packages and signed documents, by content
    partial/<sha256>              downloads under way
    metadata/                     python-tuf's cache, and second copies of signed documents
    lock                          held by whoever changes any of it

A commit replaces state.json and then its copy. Blobs are written before the state that needs them
and removed after neither copy needs them. So at any instruction at least one whole copy is there,
and every blob that it names.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from msgspec.structs import replace

from agent.clock import Clock
from agent.errors import Altered, BadRequest, NotFound, Refused, Revoked, Unsigned
from agent.registry import state as states
from agent.registry.blobs import BlobStore
from agent.registry.disk import StateFiles
from agent.registry.fsck import Finding, Fsck
from agent.registry.isolated import try_isolated
from agent.registry.layout import locked, write_atomically
from agent.registry.state import MANIFEST, Document, Entry, Record, State
from agent.trust.digest import sha256_hex
from agent.trust.manifest import MAX_BYTES, Manifest, parse_manifest
from agent.trust.policy import advance, check_files, judged_time
from agent.trust.source import Source, open_source
from agent.trust.versions import newest
from agent.types import ModelRef

if TYPE_CHECKING:
    from agent.registry.known import KnownChunks
    from agent.trust.updater import Client, Package

_log = logging.getLogger(__name__)

Trial = Callable[[Manifest, Mapping[str, bytes]], None]


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """An installed version, as it is listed.

    Attributes:
        ref: name and version.
        active: it is the version that answers.
        signers: ids of the keys that signed it.
        verified_at: wall time of the last verification against a repository, seconds.
        size: of all its files, bytes.
    """

    ref: ModelRef
    active: bool
    signers: tuple[str, ...]
    verified_at: float
    size: int


@dataclass(frozen=True, slots=True)
class VerifiedModel:
    """A package whose signatures and bytes were verified just now. Only a registry makes one.

    Attributes:
        ref: name and version.
        manifest: checked.
        files: the very bytes that were verified, by path in the package.
        signers: ids of the keys that signed it.
    """

    ref: ModelRef
    manifest: Manifest
    files: Mapping[str, bytes]
    signers: tuple[str, ...]

    @property
    def model(self) -> bytes:
        """The model file's bytes."""
        return self.files[self.manifest.model_file.path]


class Registry:
    """The only maker of a VerifiedModel.

    Safe to use from several threads and processes: changes hold a lock on the directory, and
    readers see the state before a change or the state after it.

    Args:
        directory: appears with the first change.
        clock: its wall time is what expiry is judged by, never alone (`policy`).
        trial: the first run of a model on this device; raises what is wrong with it.
    """

    def __init__(self, directory: Path, *, clock: Clock, trial: Trial = try_isolated) -> None:
        self._directory = directory
        self._clock = clock
        self._trial = trial
        self._blobs = BlobStore(directory)
        self._metadata = directory / "metadata"
        self._files = StateFiles(directory)

    @property
    def provisioned(self) -> bool:
        """Whether the device has a trust root."""
        return bool(self._read().provisioned)

    def not_before(self) -> float:
        """A wall time that is known to have been, seconds since the epoch."""
        return float(judged_time(0.0, self._read().horizon))

    def provision(self, root: bytes) -> None:
        """Give the device its trust root, once.

        Raises:
            BadRepository, Unsigned: not a root that signs itself.
            Refused: the device trusts another root already.
        """
        from agent.trust.updater import check_root

        check_root(root)
        with self._changing() as state:
            if state.provisioned == root.decode():
                return
            if state.provisioned:
                hint = f"To start afresh, remove {self._directory} and install again"
                raise Refused("this device trusts another root already", where="root", hint=hint)
            write_atomically(self._files.root, root)
            self._commit(replace(state, provisioned=root.decode(), root=root.decode()))

    def install(
        self, repository: str | Source, name: str, version: str | None = None
    ) -> InstalledModel:
        """Verify a published package, try it on this device, and activate it.

        Args:
            repository: a directory's path, a ``file://`` URL, or an open source.
            name: of the model.
            version: the newest release when it is None.

        Raises:
            Refused: unsigned, altered, expired, rolled back, revoked, or its golden cases fail.
            BadRequest: a manifest, repository or model that cannot be understood; NotFound.
            Unavailable: the source, the disk or the engine cannot serve now.
        """
        source = open_source(repository)
        with self._changing() as state:
            client, known = self._refresh(source, state)
            package = client.package(name, version or _newest(client, name))
            try:
                record = self._fetch(source, package)
                model = self._verify(known, record)
                self._trial(model.manifest, model.files)
            except (Refused, BadRequest):
                self._blobs.sweep(known.blobs())
                raise
            after = self._commit(states.installed(known, record))
            self._blobs.sweep(after.blobs())
            self._blobs.discard_partial()
            return _listed(after.find(name, package.version))

    def refresh(self, repository: str | Source) -> None:
        """Take in newer roots, and renew the evidence of what is installed.

        After a key was rotated, this is what keeps installed versions loading: they are listed
        again under the new key. A version that is no longer listed keeps its old evidence, and is
        refused as revoked when that rests on a removed key.

        Raises:
            As `install`.
        """
        with self._changing() as state:
            _, after = self._refresh(open_source(repository), state)
            self._blobs.sweep(after.blobs())

    def known_chunks(self, name: str) -> "KnownChunks":
        """What the installed versions of a model hold: an update fetches the rest."""
        from agent.registry.known import KnownChunks

        files = (f.sha256 for r in self._read().records if r.name == name for f in r.files)
        return KnownChunks([self._blobs.path(sha256) for sha256 in files])

    def list(self) -> list[InstalledModel]:
        """Every installed version, by name, the newest activation first. Verifies nothing."""
        records = sorted(self._read().records, key=lambda r: (r.name, -r.activated))
        return [_listed(record) for record in records]

    def active(self, name: str) -> ModelRef:
        """The version that answers. Raises NotFound."""
        return self._read().find(name).ref

    def activate(self, ref: ModelRef) -> None:
        """Make an installed version the one that answers, after verifying it. Needs no network.

        Raises:
            NotFound: it is not installed. Refused: it is not what was signed.
        """
        with self._changing() as state:
            self._verify(state, state.find(ref.name, ref.version))
            self._commit(states.activated(state, ref))

    def rollback(self, name: str) -> None:
        """Make the version answer that was active before, after verifying it. Needs no network.

        Raises:
            NotFound: there is none. Refused: it is not what was signed.
        """
        with self._changing() as state:
            after = states.rolled_back(state, name)
            self._verify(after, after.find(name))
            self._commit(after)

    def remove(self, ref: ModelRef) -> None:
        """Forget a version and free its space.

        Raises:
            NotFound: it is not installed. BadRequest: it is active, and not the only version.
        """
        with self._changing() as state:
            after = self._commit(states.removed(state, ref))
            self._blobs.sweep(after.blobs())

    def open(self, name: str, version: str | None = None) -> VerifiedModel:
        """Read an installed model and verify its signatures and every byte, offline.

        An active version that is damaged on the disk gives way to the version before it, where
        there is one: a power cut must not leave the device without a model. Revoked ones do not.

        Raises:
            NotFound: it is not installed.
            Altered, Unsigned, Revoked: it may not be used.
        """
        state = self._read()
        record = state.find(name, version)
        try:
            return self._verify(state, record)
        except Altered as error:
            if self._read().generation != state.generation:  # another process changed it meanwhile
                return self.open(name, version)
            before = state.before(record)
            if version is not None or before is None:
                raise
            _log.warning("an earlier version answers: %s", error, extra={"model": str(record.ref)})
            return self._verify(state, before)

    def check(
        self, *, repair: bool, every_byte: bool = True, wait: bool = True
    ) -> Sequence[Finding]:
        """Look through the directory; mend what can be mended without a repository.

        Args:
            repair: mend, and not only say what is wrong.
            every_byte: verify every version as a load does, instead of looking at sizes.
            wait: for another process that changes something; otherwise it raises NotReady.

        Raises:
            NotReady: see `wait`. StorageFailed: the disk cannot be written.
        """
        if not self._directory.exists():
            return []
        with self._changing(wait=wait):
            look = Fsck(
                self._directory, self._files, self._blobs, verify=self._verify,
                document=self._document, repair=repair,
            )  # fmt: skip
            return look.run(every_byte=every_byte)

    # Verification.

    def _verify(self, state: State, record: Record) -> VerifiedModel:
        from agent.trust import updater

        listing = {file.path: (file.size, file.sha256) for file in record.files}
        documents = tuple((d.role, self._document(d)) for d in record.evidence)
        evidence = updater.Evidence(documents)
        prefix = f"{record.name}/{record.version}/"
        try:
            signers = updater.verify(state.root.encode(), evidence, listing, prefix)
        except Unsigned as error:
            updater.verify_with_own_root(evidence, listing, prefix)  # raises when it never was
            hint = f"Install a version signed with a current key: edge-agent models install {record.name}"
            message = "it was signed with a key that is trusted no longer"
            raise Revoked(message, where=str(record.ref), hint=hint) from error
        files = {file.path: self._blobs.read(file.sha256, file.size) for file in record.files}
        manifest = _checked_manifest(record, files[MANIFEST])
        return VerifiedModel(record.ref, manifest, files, signers)

    def _document(self, document: Document) -> bytes:
        """A signed document; versions share them, so the TUF client's own copy stands in for one."""
        try:
            return self._blobs.read(document.sha256)
        except Altered:
            copy = self._metadata / f"{quote(document.role, '')}.json"
            with suppress(OSError):
                data = copy.read_bytes()
                if sha256_hex(data) == document.sha256:
                    return data
            raise

    # Installation.

    def _refresh(self, source: Source, state: State) -> "tuple[Client, State]":
        from agent.trust.updater import Client

        if not state.provisioned:
            hint = "Give it one: edge-agent models provision ROOT.json"
            raise Unsigned("this device has no trust root", hint=hint)
        wall = self._clock.wall()
        now = judged_time(wall, state.horizon)
        client = Client(source, self._metadata, state.provisioned.encode(), now)
        horizon = advance(state.horizon, client.seen(wall))
        after = replace(state, root=client.root.decode(), horizon=horizon)
        for record in state.records:
            after = self._renew(client, after, record)
        return client, after if after == state else self._commit(after)

    def _renew(self, client: "Client", state: State, record: Record) -> State:
        """The state in which a version rests on what the repository signs now, if it still does."""
        with suppress(Refused, BadRequest):
            package = client.package(record.name, record.version)
            if _entries(package) == record.files:
                return states.renewed(state, self._record(package))
        return state

    def _fetch(self, source: Source, package: "Package") -> Record:
        """Download a package, its manifest first, so that a wrong one costs nothing."""
        where = f"{package.name} {package.version}"
        manifest = package.targets[MANIFEST]
        if manifest.size > MAX_BYTES:
            raise Altered(
                f"the manifest has {manifest.size} bytes, {MAX_BYTES} are allowed", where=where
            )
        self._blobs.fetch(source, [manifest])
        record = self._record(package)
        _checked_manifest(record, self._blobs.read(manifest.sha256, manifest.size))
        self._blobs.fetch(source, list(package.targets.values()))
        return record

    def _record(self, package: "Package") -> Record:
        evidence = tuple(
            Document(role, self._blobs.put(data)) for role, data in package.evidence.documents
        )
        return Record(
            name=package.name,
            version=package.version,
            files=_entries(package),
            evidence=evidence,
            signers=package.signers,
            verified_at=self._clock.wall(),
        )

    # The state on the disk.

    def _read(self) -> State:
        return self._files.read()

    @contextmanager
    def _changing(self, *, wait: bool = True) -> Iterator[State]:
        with locked(self._directory / "lock", wait=wait):
            yield self._read()

    def _commit(self, state: State) -> State:
        return self._files.commit(state)


def _newest(client: "Client", name: str) -> str:
    version = newest(client.versions(name))
    if version is None:
        raise NotFound("the repository has no such model", where=name)
    return version


def _checked_manifest(record: Record, data: bytes) -> Manifest:
    manifest = parse_manifest(data, where=f"{record.ref}: {MANIFEST}")
    if manifest.ref != record.ref:
        raise Altered(f"the manifest is that of {manifest.ref}", where=str(record.ref))
    listing = {f.path: (f.size, f.sha256) for f in record.files if f.path != MANIFEST}
    check_files(manifest, listing)
    return manifest


def _entries(package: "Package") -> tuple[Entry, ...]:
    targets = sorted(package.targets.values(), key=lambda target: target.path)
    return tuple(Entry(target.path, target.size, target.sha256) for target in targets)


def _listed(record: Record) -> InstalledModel:
    return InstalledModel(
        record.ref, record.active, record.signers, record.verified_at, record.size
    )
