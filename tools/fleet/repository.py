"""A signed repository in a directory: what devices install from.

    metadata/   1.root.json …, <n>.targets.json, <n>.snapshot.json, timestamp.json
    targets/    <name>/<version>/<sha256>.<file>

Copy the directory to a web server or to a USB stick as it is; it holds no secret.
"""

import copy
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuf.api.metadata import DelegatedRole, Delegations, Metadata, Root, TargetFile, Targets

from agent.clock import Clock, SystemClock
from agent.errors import BadRequest, NotFound
from agent.registry.layout import write_atomically
from agent.sync.download import connected
from agent.sync.settings import LinkSettings
from agent.trust.policy import NEWEST_LAYOUT
from agent.trust.source import EXPORTED
from agent.trust.updater import LAYOUT_FIELD
from agent.types import ModelRef
from tools.fleet.keys import KeyStore, Passphrase, Scheme, no_passphrase, no_pin
from tools.fleet.keystores import Pin
from tools.fleet.metadata import TOP_ROLES, MetadataStore
from tools.fleet.mirror import Mirror, Mirrored
from tools.fleet.package import PackedFile, copy_durably, read_package

RENEW_AT = 0.5  # share of a role's validity that is used up when `refresh` renews it


@dataclass(frozen=True, slots=True)
class RoleStatus:
    """A role as `inspect` shows it.

    Attributes:
        role: its name.
        version: of its current metadata.
        expires: RFC 3339.
        threshold: signatures needed.
        keys: ids of its keys.
        at_hand: those whose private half is here.
    """

    role: str
    version: int
    expires: str
    threshold: int
    keys: tuple[str, ...]
    at_hand: tuple[str, ...]


class Repository:
    """A repository and the keys at hand.

    Args:
        directory: of the repository.
        keys_dir: of the private keys.
        passphrase: asked for key files; none for development keys.
        pin: asked for by hardware tokens.
        clock: for expiry dates.

    Attributes:
        metadata: the signed documents, for what goes below publishing.
    """

    def __init__(
        self,
        directory: Path,
        keys_dir: Path,
        *,
        passphrase: Passphrase = no_passphrase,
        pin: Pin = no_pin,
        clock: Clock | None = None,
    ) -> None:
        self._directory = directory
        self._keys = KeyStore(keys_dir, passphrase, pin)
        self.metadata = MetadataStore(directory / "metadata", self._keys, clock or SystemClock())

    @classmethod
    def create(
        cls,
        directory: Path,
        keys_dir: Path,
        *,
        passphrase: Passphrase = no_passphrase,
        pin: Pin = no_pin,
        scheme: Scheme = "ed25519",
        root_keys: int = 1,
        root_threshold: int = 1,
        addresses: Mapping[str, Sequence[str]] | None = None,
        clock: Clock | None = None,
    ) -> "Repository":
        """A new, empty repository with a key for each role.

        Args:
            directory: of the repository.
            keys_dir: of the private keys.
            passphrase: for the new key files.
            pin: asked for by hardware tokens.
            scheme: of the new keys.
            root_keys: how many to make for the root.
            root_threshold: how many of them must sign a root.
            addresses: by role, keys that are in tokens or clouds; the role gets these and no others.
            clock: for expiry dates.

        Raises:
            BadRequest: there is a repository already, or the threshold exceeds the keys.
            BadKey: an address leads to no key.
        """
        origins = {role: [str(scheme)] for role in TOP_ROLES}
        origins["root"] *= root_keys
        origins |= {_top_level(role): list(found) for role, found in (addresses or {}).items()}
        if not 1 <= root_threshold <= len(origins["root"]):
            raise BadRequest("the threshold is between 1 and the number of root keys")
        repository = cls(directory, keys_dir, passphrase=passphrase, pin=pin, clock=clock)
        if repository.metadata.exists:
            raise BadRequest("there is a repository already", where=str(directory))
        root = Metadata(Root(version=1, consistent_snapshot=True))
        for role, of_role in origins.items():
            for origin in of_role:
                root.signed.add_key(repository._keys.obtain(role, origin), role)
        root.signed.roles["root"].threshold = root_threshold
        repository.metadata.write_root(root)
        targets = Metadata(Targets(unrecognized_fields={LAYOUT_FIELD: NEWEST_LAYOUT}))
        repository.metadata.commit({"targets": targets})
        return repository

    def root_bytes(self) -> bytes:
        """The newest root: what a device is provisioned with."""
        return self.metadata.root_bytes()

    # Packages.

    def publish(self, package: Path, *, role: str = "targets") -> ModelRef:
        """Sign a package and make it visible to devices.

        Args:
            package: directory with a model.toml and the files that it lists.
            role: who signs: the top-level targets, or a delegated role.

        Raises:
            BadManifest, Altered: the package is not what its manifest says.
            BadRequest: this version is published with other content; a version never changes.
            BadKey: the role's keys are not at hand.
        """
        manifest, files = read_package(package)
        prefix = f"{manifest.name}/{manifest.version}/"
        found = {prefix + path: _target_file(prefix + path, file) for path, file in files.items()}
        targets = self.metadata.targets(role)
        self._refuse_change(manifest.ref, found)
        for path, file in files.items():
            copy_durably(file, self._directory / "targets" / _stored_as(prefix + path, file))
        targets.signed.targets.update(found)
        self.metadata.commit({role: targets})
        return manifest.ref

    def withdraw(self, ref: ModelRef) -> None:
        """Publish no longer. Devices that have the version keep it until its key is revoked.

        Raises:
            NotFound: it is not published.
        """
        prefix = f"{ref.name}/{ref.version}/"
        changed = {}
        for role in self.metadata.roles():
            targets = self.metadata.targets(role)
            kept = {p: t for p, t in targets.signed.targets.items() if not p.startswith(prefix)}
            if len(kept) < len(targets.signed.targets):
                targets.signed.targets = kept
                changed[role] = targets
        if not changed:
            raise NotFound("the version is not published", where=str(ref))
        self.metadata.commit(changed)
        shutil.rmtree(self._directory / "targets" / prefix, ignore_errors=True)

    def published(self) -> dict[ModelRef, str]:
        """Every published version with the role that signs it."""
        found = {}
        for role in self.metadata.roles():
            for path in self.metadata.targets(role).signed.targets:
                name, version, file = path.split("/", 2)
                if file == "model.toml":
                    found[ModelRef(name, version)] = role
        return dict(sorted(found.items()))

    def refresh(self) -> list[str]:
        """Renew the timestamp, and every other role that is half way to its expiry.

        Made to be run by cron. The root is renewed only where its keys are at hand. Also completes
        a change of keys that was cut off: a role that lacks signatures is signed again.

        Returns:
            The roles that were renewed.

        Raises:
            BadKey: a role has to be renewed and its keys are not at hand.
        """
        renewed = self._refresh_root()
        targets = {role: self.metadata.targets(role) for role in self.metadata.roles()}
        due = {role: metadata for role, metadata in targets.items() if self._is_due(metadata, role)}
        snapshot = self.metadata.snapshot()
        if due:
            self.metadata.commit(due)
            return [*renewed, *due, "snapshot", "timestamp"]
        if self._is_due(snapshot, "snapshot"):
            self.metadata.commit_snapshot(snapshot)
            return [*renewed, "snapshot", "timestamp"]
        self.metadata.commit_timestamp(self.metadata.timestamp())
        return [*renewed, "timestamp"]

    def inspect(self) -> list[RoleStatus]:
        """Every role, top-level first."""
        root = self.metadata.root()
        documents: dict[str, Metadata[Any]] = {
            "root": root,
            "snapshot": self.metadata.snapshot(),
            "timestamp": self.metadata.timestamp(),
            **{role: self.metadata.targets(role) for role in self.metadata.roles()},
        }
        return [self._status(role, document) for role, document in documents.items()]

    def export(self, destination: Path) -> Path:
        """Copy the repository, for example to a USB stick; the timestamp last.

        Returns:
            The directory that devices install from.
        """
        target = destination / EXPORTED
        timestamp = self._directory / "metadata" / "timestamp.json"
        skip = shutil.ignore_patterns("timestamp.json", "*.new", ".mirrors")
        shutil.copytree(self._directory, target, ignore=skip, dirs_exist_ok=True)
        write_atomically(target / "metadata" / "timestamp.json", timestamp.read_bytes())
        return target

    def mirror(self, link: LinkSettings, prefix: str, *, everything: bool = False) -> Mirrored:
        """Bring a broker's retained messages to the present state; see `Mirror`."""
        with connected(link) as thread:
            mirror = Mirror(self._directory, self.metadata, thread, prefix, link.brokers[0])
            return mirror.run(everything=everything)

    # Keys.

    def add_key(self, role: str, origin: str = "ed25519") -> str:
        """Give a top-level role one more key. Returns its id.

        Args:
            role: root, targets, snapshot or timestamp.
            origin: a scheme to make a key of, or the address of one (`keystores`).
        """
        key = self._keys.obtain(_top_level(role), origin)
        self._change_root(lambda root: root.add_key(key, role), role)
        return key.keyid

    def revoke_key(self, keyid: str) -> list[str]:
        """Take a key from every role that has it, and sign their metadata again without it.

        Args:
            keyid: the whole id, or at least its first eight digits.

        Returns:
            The roles that had it.

        Raises:
            NotFound: no role has it. BadRequest: a role would be left with too few keys.
        """
        root = self.metadata.root().signed
        whole = _whole_id(root, keyid)
        roles = [name for name, role in root.roles.items() if whole in role.keyids]
        for role in roles:
            if len(root.roles[role].keyids) <= root.roles[role].threshold:
                hint = f"Add another first: edge-fleet key add {role}"
                raise BadRequest("the role would have too few keys left", where=role, hint=hint)

        def change(root: Root) -> None:
            for role in roles:
                root.revoke_key(whole, role)

        self._change_root(change, *roles)
        return roles

    def rotate_key(self, role: str, origin: str = "ed25519") -> tuple[str, list[str]]:
        """Replace all keys of a top-level role by one new key. Returns the new id and the old ones."""
        key = self._keys.obtain(_top_level(role), origin)
        old = list(self.metadata.root().signed.roles[role].keyids)

        def change(root: Root) -> None:
            for keyid in old:
                root.revoke_key(keyid, role)
            root.add_key(key, role)
            root.roles[role].threshold = 1

        self._change_root(change, role)
        return key.keyid, old

    def set_threshold(self, role: str, threshold: int) -> None:
        """How many signatures a top-level role needs. Raises BadRequest beyond its keys."""
        known = len(self.metadata.root().signed.roles[_top_level(role)].keyids)
        if not 1 <= threshold <= known:
            raise BadRequest(f"expected 1 to {known}, the number of its keys", where=role)
        self._change_root(lambda root: setattr(root.roles[role], "threshold", threshold), role)

    def delegate(self, role: str, patterns: Sequence[str], origin: str = "ed25519") -> str:
        """Let a team sign models of its own, and no others. Returns the id of its new key.

        Args:
            role: a new name for the team.
            patterns: model names, with ``*`` as a wildcard, for example ``vision-*``.
            origin: a scheme to make its key of, or the address of one.
        """
        if role in TOP_ROLES or role in self.metadata.roles():
            raise BadRequest("there is such a role already", where=role)
        key = self._keys.obtain(role, origin)
        targets = self.metadata.targets()
        paths = [f"{pattern}/*/*" for pattern in patterns]
        delegations = targets.signed.delegations or Delegations({}, {})
        team = DelegatedRole(role, [], 1, terminating=True, paths=paths)
        delegations.roles = {**(delegations.roles or {}), role: team}
        targets.signed.delegations = delegations
        targets.signed.add_key(key, role)
        self.metadata.commit({"targets": targets, role: Metadata(Targets())})
        return key.keyid

    def _change_root(self, change: "Callable[[Root], object]", *roles: str) -> None:
        """A new root, and the metadata of the changed roles signed again by their new keys."""
        before = self.metadata.root()
        root = Metadata(copy.deepcopy(before.signed))
        change(root.signed)
        self.metadata.write_root(root, before.signed)
        if "targets" in roles:
            self.metadata.commit({"targets": self.metadata.targets()})
        elif "snapshot" in roles:
            self.metadata.commit_snapshot(self.metadata.snapshot())
        elif "timestamp" in roles:
            self.metadata.commit_timestamp(self.metadata.timestamp())

    def _refresh_root(self) -> list[str]:
        root = self.metadata.root()
        keys = [root.signed.get_key(keyid) for keyid in root.signed.roles["root"].keyids]
        if self._is_due(root, "root") and all(self._keys.has(key) for key in keys):
            self._change_root(lambda _: None)
            return ["root"]
        return []

    def _is_due(self, metadata: "Metadata[Any]", role: str) -> bool:
        half_way = self.metadata.age(metadata, role) >= RENEW_AT
        return half_way or not self.metadata.is_valid(metadata, role)

    def _status(self, role: str, metadata: "Metadata[Any]") -> RoleStatus:
        of_targets = role not in TOP_ROLES
        parent = self.metadata.targets() if of_targets else self.metadata.root()
        delegator: Root | Targets = parent.signed
        wanted = delegator.get_delegated_role(role)
        at_hand = (k for k in wanted.keyids if self._keys.has(delegator.get_key(k)))
        signed = metadata.signed
        expires = signed.expires.strftime("%Y-%m-%dT%H:%M:%SZ")
        keys = tuple(wanted.keyids)
        return RoleStatus(role, signed.version, expires, wanted.threshold, keys, tuple(at_hand))

    def _refuse_change(self, ref: ModelRef, files: "dict[str, TargetFile]") -> None:
        prefix = f"{ref.name}/{ref.version}/"
        for role in self.metadata.roles():
            targets = self.metadata.targets(role).signed.targets
            known = {path: file for path, file in targets.items() if path.startswith(prefix)}
            if known and known != files:
                hint = "Raise the version in model.toml"
                raise BadRequest(
                    "this version is published with other content", where=str(ref), hint=hint
                )


def _target_file(path: str, file: PackedFile) -> TargetFile:
    return TargetFile(file.size, {"sha256": file.sha256}, path)


def _stored_as(path: str, file: PackedFile) -> str:
    directory, _, name = path.rpartition("/")
    return f"{directory}/{file.sha256}.{name}"


def _top_level(role: str) -> str:
    if role not in TOP_ROLES:
        raise BadRequest(f"expected one of {', '.join(TOP_ROLES)}", where=role)
    return role


def _whole_id(root: Root, keyid: str) -> str:
    found = [known for known in root.keys if len(keyid) >= 8 and known.startswith(keyid)]
    if len(found) != 1:
        raise NotFound("no role has such a key", where=keyid, hint="See: edge-fleet inspect")
    return found[0]
