"""Look through the registry's directory, mend what can be mended from what is there, and say the rest.

What a card leaves after a power cut: files truncated, empty or full of zeros, temporary files, blobs
that nobody counts. There are no stored reference counts that could be wrong: what is needed follows
from the state, here as everywhere else. What cannot be mended without a repository is refused by
every load, and named here with what to do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.errors import Altered, Refused
from agent.registry import state as states
from agent.registry.blobs import BlobStore
from agent.registry.disk import StateFiles
from agent.registry.layout import write_atomically
from agent.registry.state import Document, Record, State

Verify = Callable[[State, Record], object]
ReadDocument = Callable[[Document], bytes]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        where: file or version.
        problem: what is wrong.
        mended: what was done, or would be done by a repair; empty when only a repository can mend it.
        hint: what to do; empty where nothing is left to do.
        code: of the error that a load would raise; empty where it would not.
    """

    where: str
    problem: str
    mended: str = ""
    hint: str = ""
    code: str = ""


class Fsck:
    """One look through a registry, under its lock.

    Args:
        directory: of the registry.
        files: its state on the disk.
        blobs: its blobs.
        verify: signatures and every byte of a version; raises what is wrong.
        document: a signed document, from wherever it is whole.
        repair: also mend.
    """

    def __init__(
        self,
        directory: Path,
        files: StateFiles,
        blobs: BlobStore,
        *,
        verify: Verify,
        document: ReadDocument,
        repair: bool,
    ) -> None:
        self._directory = directory
        self._files = files
        self._blobs = blobs
        self._verify = verify
        self._document = document
        self._repair = repair

    def run(self, *, every_byte: bool) -> list[Finding]:
        """All findings.

        Args:
            every_byte: verify every version as a load does; otherwise only look at sizes, which
                costs a system call for each file.
        """
        state = self._files.read()
        found = [*self._copies(state), *self._root(state)]
        damaged = []
        for record in state.records:
            problems = list(self._version(state, record, every_byte=every_byte))
            found += problems
            damaged += [record] * any(finding.code == Altered.code for finding in problems)
        found += self._active(state, damaged)
        found += self._leftovers(state)
        return found

    def _copies(self, state: State) -> Iterator[Finding]:
        """Both copies of the state, each equal to the newest."""
        if state.generation == 0:
            for path in filter(Path.exists, self._files.copies):
                hint = "Install the models again; what is whole of them is not downloaded again"
                yield Finding(path.name, "the state of the registry is lost", hint=hint)
            return
        for path in self._files.copies:
            if self._files.read_copy(path) != state:
                self._write(path, states.encode(state))
                yield Finding(path.name, "is damaged or out of date", "written from the other copy")

    def _root(self, state: State) -> Iterator[Finding]:
        if state.provisioned and self._files.read_root() != state.provisioned:
            self._write(self._files.root, state.provisioned.encode())
            yield Finding(self._files.root.name, "is damaged or missing", "written from the state")

    def _version(self, state: State, record: Record, *, every_byte: bool) -> Iterator[Finding]:
        yield from self._documents(record)
        hint = (
            f"Install it again: edge-agent models install {record.name} --version {record.version}"
        )
        try:
            if every_byte:
                self._verify(state, record)
            else:
                self._sizes(record)
        except Refused as error:
            yield Finding(str(record.ref), str(error), hint=error.hint or hint, code=error.code)

    def _documents(self, record: Record) -> Iterator[Finding]:
        """Signed documents have a second copy, the TUF client's."""
        for document in record.evidence:
            if not self._is_whole(document):
                try:
                    data = self._document(document)
                except Altered:
                    continue  # the version itself is reported
                if self._repair:
                    self._blobs.put(data)
                where = f"{record.ref}: {document.role}"
                yield Finding(where, "the signed document is damaged", "restored from its copy")

    def _is_whole(self, document: Document) -> bool:
        try:
            self._blobs.read(document.sha256)
        except Altered:
            return False
        return True

    def _sizes(self, record: Record) -> None:
        for document in record.evidence:
            self._document(document)
        for file in record.files:
            if not self._blobs.has(file.sha256, file.size):
                raise Altered(f"{file.path} is missing or truncated", where=str(record.ref))

    def _active(self, state: State, damaged: list[Record]) -> Iterator[Finding]:
        """A damaged active version gives way to the one before, as at every load; a revoked one not."""
        for record in damaged:
            before = state.before(record)
            if record.active and before is not None and before not in damaged:
                state = states.activated(state, before.ref)
                if self._repair:
                    state = self._files.commit(state)
                yield Finding(
                    record.name, f"{record.version} cannot answer", f"{before.version} does"
                )

    def _leftovers(self, state: State) -> Iterator[Finding]:
        """Temporary files, and blobs that no version needs."""
        for path in sorted(self._directory.rglob("*.new")):
            yield self._removed(path, "a temporary file of a write that was cut")
        if state.generation == 0:
            return  # the state is lost: the next installation finds these blobs and need not download
        for path in sorted(self._blobs.orphans(state.blobs())):
            yield self._removed(path, "no version needs it")

    def _removed(self, path: Path, problem: str) -> Finding:
        if self._repair:
            path.unlink(missing_ok=True)
        return Finding(str(path.relative_to(self._directory)), problem, "removed")

    def _write(self, path: Path, data: bytes) -> None:
        if self._repair:
            write_atomically(path, data)
