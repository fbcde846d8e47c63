"""A TUF repository's metadata on disk: the current version of each role, signed and written in order.

The order of writing is what makes a cut harmless: delegated roles and targets, then the snapshot,
and the timestamp last. Until the timestamp is replaced, devices see the state before.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey
from tuf.api.exceptions import RepositoryError, UnsignedMetadataError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from agent.clock import Clock
from agent.errors import BadKey, BadRepository, NotFound
from agent.registry.layout import write_atomically
from tools.fleet.keys import KeyStore
from tools.fleet.keystores import describe

#: How long a role's metadata is valid, days. `edge-fleet refresh` renews what is half way there.
VALID_DAYS: Mapping[str, int] = {"root": 730, "targets": 365, "snapshot": 90, "timestamp": 30}

TOP_ROLES = ("root", "targets", "snapshot", "timestamp")


class MetadataStore:
    """The signed metadata of one repository.

    Args:
        directory: the repository's ``metadata`` directory.
        keys: the private keys that are at hand.
        clock: gives the expiry dates.
    """

    def __init__(self, directory: Path, keys: KeyStore, clock: Clock) -> None:
        self._directory = directory
        self._keys = keys
        self._clock = clock

    @property
    def exists(self) -> bool:
        """Whether there is a repository here."""
        return self._root_version() > 0

    def root(self) -> "Metadata[Root]":
        """The newest root. Raises NotFound when there is no repository here."""
        return self._load(f"{self._root_version()}.root.json")

    def root_bytes(self, version: int | None = None) -> bytes:
        """A root's file, the newest by default."""
        path = self._directory / f"{version or self._root_version()}.root.json"
        return _read(path)

    def timestamp(self) -> "Metadata[Timestamp]":
        """The current timestamp."""
        return self._load("timestamp.json")

    def snapshot(self) -> "Metadata[Snapshot]":
        """The snapshot that the timestamp names."""
        return self._load(f"{self.timestamp().signed.snapshot_meta.version}.snapshot.json")

    def targets(self, role: str = "targets") -> "Metadata[Targets]":
        """The current metadata of the top-level targets or of a delegated role. Raises NotFound."""
        meta = self.snapshot().signed.meta.get(f"{role}.json")
        if meta is None:
            raise NotFound("the repository has no such role", where=role)
        return self._load(f"{meta.version}.{role}.json")

    def roles(self) -> list[str]:
        """The top-level targets and every delegated role."""
        return [name.removesuffix(".json") for name in self.snapshot().signed.meta]

    def current_files(self) -> tuple[list[str], int]:
        """What devices need now: names of files, the timestamp last, and the newest root's version."""
        root = self._root_version()
        roots = [f"{version}.root.json" for version in range(1, root + 1)]
        snapshot = self.timestamp().signed.snapshot_meta.version
        targets = [f"{meta.version}.{name}" for name, meta in self.snapshot().signed.meta.items()]
        return [*roots, *targets, f"{snapshot}.snapshot.json", "timestamp.json"], root

    def age(self, metadata: "Metadata[Any]", role: str) -> float:
        """How much of its validity a role has used up, 0 to 1 and beyond."""
        left = metadata.signed.expires - self._now()
        return float(1 - left / timedelta(days=valid_days(role)))

    def is_valid(self, metadata: "Metadata[Any]", role: str) -> bool:
        """Whether a role's signatures still suffice: they do not when a change of keys was cut off."""
        try:
            delegator = self._delegator(role, {})
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError:
            return False
        return True

    def write_root(self, root: "Metadata[Root]", before: Root | None = None) -> None:
        """Sign and write a new root; by its own keys and, as TUF asks, by those of the one before.

        Raises:
            BadKey: not enough of the keys are at hand.
        """
        delegators = [root.signed] if before is None else [before, root.signed]
        if before is not None:
            root.signed.version = before.version + 1
        self.sign(root, "root", delegators)
        write_atomically(self._directory / f"{root.signed.version}.root.json", root.to_bytes())

    def commit(self, changed: "Mapping[str, Metadata[Targets]]") -> None:
        """Sign and write changed targets roles, a snapshot of all, and the timestamp.

        Raises:
            BadKey: not enough of the keys are at hand; nothing is visible to devices.
        """
        snapshot = self._or_new("timestamp.json", self.snapshot, Snapshot)
        for role, metadata in changed.items():
            _raise_version(metadata)
            self.sign(metadata, role, [self._delegator(role, changed)])
            data = metadata.to_bytes()
            write_atomically(self._directory / f"{metadata.signed.version}.{role}.json", data)
            file = MetaFile.from_data(metadata.signed.version, data, ["sha256"])
            snapshot.signed.meta[f"{role}.json"] = file
        self.commit_snapshot(snapshot)

    def commit_snapshot(self, snapshot: "Metadata[Snapshot]") -> None:
        """Sign and write a snapshot, and the timestamp that names it."""
        _raise_version(snapshot)
        self.sign(snapshot, "snapshot", [self.root().signed])
        data = snapshot.to_bytes()
        write_atomically(self._directory / f"{snapshot.signed.version}.snapshot.json", data)
        timestamp = self._or_new("timestamp.json", self.timestamp, Timestamp)
        version = snapshot.signed.version
        timestamp.signed.snapshot_meta = MetaFile.from_data(version, data, ["sha256"])
        self.commit_timestamp(timestamp)

    def commit_timestamp(self, timestamp: "Metadata[Timestamp]") -> None:
        """Sign and write a timestamp: from here on, devices see what it names."""
        _raise_version(timestamp)
        self.sign(timestamp, "timestamp", [self.root().signed])
        write_atomically(self._directory / "timestamp.json", timestamp.to_bytes())

    def _or_new(self, name: str, load: Any, payload: Any) -> Any:
        return load() if (self._directory / name).exists() else Metadata(payload())

    def _delegator(self, role: str, changed: "Mapping[str, Metadata[Targets]]") -> Any:
        if role in TOP_ROLES:
            return self.root().signed
        return (changed.get("targets") or self.targets()).signed

    def sign(self, metadata: "Metadata[Any]", role: str, delegators: Sequence[Any]) -> None:
        """Date a document and sign it with every key at hand, enough for each of its delegators.

        Raises:
            BadKey: not enough of the keys are at hand.
        """
        metadata.signed.expires = self._now() + timedelta(days=valid_days(role))
        metadata.signatures.clear()
        for key in _keys(delegators, role):
            if self._keys.has(key):
                self._sign(metadata, key)
        for delegator in delegators:
            self._check_threshold(delegator, role, metadata)

    def _sign(self, metadata: "Metadata[Any]", key: SSlibKey) -> None:
        try:
            metadata.sign(self._keys.signer(key), append=True)
        except UnsignedMetadataError as error:
            cause = describe(error.__cause__ or error)
            raise BadKey(f"the key {key.keyid[:8]} did not sign: {cause}") from error

    @staticmethod
    def _check_threshold(delegator: Any, role: str, metadata: "Metadata[Any]") -> None:
        try:
            delegator.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        except UnsignedMetadataError as error:
            ids = ", ".join(keyid[:8] for keyid in delegator.get_delegated_role(role).keyids)
            message = f"not enough keys of the role {role} are at hand: {error}"
            raise BadKey(message, hint=f"Bring the files of: {ids}") from error

    def _load(self, name: str) -> "Metadata[Any]":
        try:
            return Metadata.from_bytes(_read(self._directory / name))
        except RepositoryError as error:
            path = str(self._directory / name)
            raise BadRepository(f"cannot be understood: {error}", where=path) from error

    def _root_version(self) -> int:
        names = (path.name.split(".")[0] for path in self._directory.glob("*.root.json"))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC).replace(microsecond=0)


def _raise_version(metadata: "Metadata[Any]") -> None:
    if metadata.signatures:  # new metadata, never signed, is version 1 as it is
        metadata.signed.version += 1


def valid_days(role: str) -> int:
    """Of a role; delegated roles are as long valid as the targets."""
    return VALID_DAYS.get(role, VALID_DAYS["targets"])


def _keys(delegators: Iterable[Any], role: str) -> list[SSlibKey]:
    keys = {}
    for delegator in delegators:
        for keyid in delegator.get_delegated_role(role).keyids:
            keys[keyid] = delegator.get_key(keyid)
    return list(keys.values())


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        hint = "Make a repository: edge-fleet init"
        raise NotFound(
            "there is no such file in the repository", where=str(path), hint=hint
        ) from error
