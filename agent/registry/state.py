"""What the registry knows, as a value: which versions are installed, which is active, what is trusted.

Pure. One document holds all of it, so that one rename commits an installation, its activation,
the root it was verified with and the renewed evidence of the others together. Two copies are kept
(`registry`), each with a digest of its own, so that one damaged file loses nothing.
"""

from collections.abc import Callable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.errors import BadRequest, NotFound
from agent.trust.digest import sha256_hex
from agent.trust.policy import Horizon
from agent.types import ModelRef

KEPT_VERSIONS = 2  # of each model: the active one and the one before it

MANIFEST = "model.toml"


class Entry(Struct, frozen=True):
    """A file of an installed package, and the blob that holds it."""

    path: str
    size: int
    sha256: str


class Document(Struct, frozen=True):
    """A signed document of the evidence: the role it was signed for, and its blob."""

    role: str
    sha256: str


class Record(Struct, frozen=True):
    """An installed version.

    Attributes:
        name, version: as in the manifest.
        files: the package, the manifest among them.
        evidence: root, targets and delegated roles, as they signed the files.
        signers: ids of the keys whose signatures were valid.
        verified_at: wall time of the last verification against a repository, seconds.
        activated: rises with each activation of any version; 0 for never.
        active: it is the version that answers.
    """

    name: str
    version: str
    files: tuple[Entry, ...]
    evidence: tuple[Document, ...]
    signers: tuple[str, ...]
    verified_at: float
    activated: int = 0
    active: bool = False

    @property
    def ref(self) -> ModelRef:
        return ModelRef(self.name, self.version)

    @property
    def size(self) -> int:
        """Of all files, bytes."""
        return sum(file.size for file in self.files)


class State(Struct, frozen=True):
    """Everything.

    Attributes:
        format: of this document.
        generation: rises with each commit.
        provisioned: the root that the device was given; empty before.
        root: the newest root reached from it by signatures.
        horizon: the newest repository state that was accepted.
        records: the installed versions.
    """

    format: int = 1
    generation: int = 0
    provisioned: str = ""
    root: str = ""
    horizon: Horizon = Horizon()
    records: tuple[Record, ...] = ()

    def blobs(self) -> set[str]:
        """Digests of every blob that this state needs."""
        files = {file.sha256 for record in self.records for file in record.files}
        return files | {d.sha256 for record in self.records for d in record.evidence}

    def find(self, name: str, version: str | None = None) -> Record:
        """A record by version, or the active one.

        Raises:
            NotFound: no such version is installed, or none is active.
        """
        for record in self.records:
            if record.name == name and (record.version == version if version else record.active):
                return record
        what = f"{name} {version or ''}".strip()
        hint = f"Install it: edge-agent models install {name}"
        raise NotFound("the model is not installed", where=what, hint=hint)

    def before(self, record: Record) -> Record | None:
        """The version that was active before a version; None when no other was."""
        others = [r for r in self.records if r.name == record.name and r.ref != record.ref]
        return max((r for r in others if r.activated), key=lambda r: r.activated, default=None)


def activated(state: State, ref: ModelRef) -> State:
    """The state in which a version is the one that answers.

    Raises:
        NotFound: it is not installed.
    """
    state.find(ref.name, ref.version)
    turn = 1 + max((record.activated for record in state.records), default=0)

    def change(record: Record) -> Record:
        if record.ref == ref:
            return replace(record, active=True, activated=turn)
        return replace(record, active=False) if record.name == ref.name else record

    return _mapped(state, change)


def installed(state: State, record: Record) -> State:
    """The state with a version added (or renewed) and active; of older ones, the last is kept."""
    others = tuple(r for r in state.records if r.ref != record.ref)
    state = activated(replace(state, records=(*others, record)), record.ref)
    versions = [r for r in state.records if r.name == record.name]
    versions.sort(key=lambda r: r.activated, reverse=True)
    dropped = {r.ref for r in versions[KEPT_VERSIONS:]}
    return replace(state, records=tuple(r for r in state.records if r.ref not in dropped))


def rolled_back(state: State, name: str) -> State:
    """The state in which the version before the active one answers again.

    Raises:
        NotFound: no version is active, or there was none before it.
    """
    before = state.before(state.find(name))
    if before is None:
        raise NotFound("there is no earlier version to go back to", where=name)
    return activated(state, before.ref)


def removed(state: State, ref: ModelRef) -> State:
    """The state without a version.

    Raises:
        NotFound: it is not installed. BadRequest: it is active.
    """
    if state.find(ref.name, ref.version).active and _count(state, ref.name) > 1:
        hint = "Activate another version first"
        raise BadRequest("the active version cannot be removed", where=str(ref), hint=hint)
    return replace(state, records=tuple(r for r in state.records if r.ref != ref))


def renewed(state: State, record: Record) -> State:
    """The state with a record's evidence replaced, its activation left as it is."""

    def change(old: Record) -> Record:
        if old.ref != record.ref:
            return old
        return replace(record, active=old.active, activated=old.activated)

    return _mapped(state, change)


def encode(state: State) -> bytes:
    """A copy of the state for the disk: JSON, then a line with its digest."""
    body = msgspec.json.format(msgspec.json.encode(state), indent=1)
    return body + b"\n" + sha256_hex(body).encode() + b"\n"


def decode(data: bytes) -> State | None:
    """The state of a copy; None when the copy is damaged in any way."""
    body, _, digest = data.removesuffix(b"\n").rpartition(b"\n")
    if digest.decode("ascii", "replace") != sha256_hex(body):
        return None
    try:
        return msgspec.json.decode(body, type=State)
    except msgspec.DecodeError:
        return None


def _mapped(state: State, change: Callable[[Record], Record]) -> State:
    return replace(state, records=tuple(change(record) for record in state.records))


def _count(state: State, name: str) -> int:
    return sum(record.name == name for record in state.records)
