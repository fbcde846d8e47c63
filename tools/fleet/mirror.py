"""A repository into the retained messages of a broker, from where devices fetch what they lack.

Chunks first, then the lists that name them, then metadata, and the timestamp last: until it is
there, devices see the state before. What the new state does not need any more is removed after it.
A ledger beside the repository says what the broker has acknowledged, so that a refresh costs one
message, and a mirroring that was cut goes on with the file that it had come to.
"""

import asyncio
import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from agent.errors import AgentError, NotReachable
from agent.registry.layout import write_atomically
from agent.sync.download import LinkThread
from agent.sync.link import Link
from agent.trust.chunks import MAX_BYTES, messages
from agent.trust.digest import sha256_hex
from agent.trust.retained import ABSENT, blob_topic, metadata_topic
from tools.fleet.metadata import MetadataStore

LEDGERS = ".mirrors"  # in the repository; not exported
IN_FLIGHT = 20  # messages that the broker has not acknowledged yet; 2.4 MB
PATIENCE_S = 60.0  # with one message
_RETRY_S = 0.05


class Ledger(msgspec.Struct):
    """What a broker has acknowledged.

    Attributes:
        format: of this document.
        files: of each target's digest, the digests of the messages that carry it.
        metadata: of each metadata file, the digest of its bytes.
        extra: chunks of metadata files that are too large for one message.
    """

    format: int = 1
    files: dict[str, list[str]] = {}
    metadata: dict[str, str] = {}
    extra: list[str] = []

    def blobs(self) -> set[str]:
        """Every message below ``blob/``."""
        return {digest for digests in self.files.values() for digest in digests} | set(self.extra)


@dataclass
class Mirrored:
    """What was done.

    Attributes:
        sent: messages.
        sent_bytes: their payloads.
        removed: messages.
    """

    sent: int = 0
    sent_bytes: int = 0
    removed: int = 0


class Mirror:
    """Keeps a broker's copy of a repository.

    Args:
        directory: of the repository.
        metadata: its signed documents.
        thread: a connected link.
        prefix: of the topics, as devices have it in their configuration.
        name: of the broker and prefix, for the ledger.
    """

    def __init__(
        self, directory: Path, metadata: MetadataStore, thread: LinkThread, prefix: str, name: str
    ) -> None:
        self._directory = directory
        self._metadata = metadata
        self._thread = thread
        self._prefix = prefix
        self._path = directory / LEDGERS / f"{sha256_hex(f'{name} {prefix}'.encode())[:16]}.json"
        self._done = Mirrored()

    def run(self, *, everything: bool = False) -> Mirrored:
        """Bring the broker to the repository's present state.

        Args:
            everything: send also what the ledger says is there.

        Raises:
            NotReachable: the broker went away, or keeps no retained messages; call again.
        """
        ledger = self._trusted_ledger(everything=everything)
        wanted = {path.name.split(".")[0]: path for path in self._targets()}
        for sha256, path in wanted.items():
            if sha256 not in ledger.files:
                ledger.files[sha256] = self._send_file(path, ledger.blobs())
                self._save(ledger)
        before = ledger.blobs() | set(ledger.metadata)
        self._send_metadata(ledger)
        ledger.files = {sha256: ledger.files[sha256] for sha256 in wanted}
        gone = before - ledger.blobs() - set(ledger.metadata)
        self._remove(gone)
        self._save(ledger)
        return self._done

    def _trusted_ledger(self, *, everything: bool) -> Ledger:
        """What the broker holds; nothing where it has forgotten, as one does that lost its disk."""
        try:
            ledger = msgspec.json.decode(self._path.read_bytes(), type=Ledger)
        except (OSError, msgspec.DecodeError):
            return Ledger()
        if everything or self._held("timestamp.json") is None:
            return Ledger()
        return ledger

    def _targets(self) -> Iterator[Path]:
        """The published files, as they lie in the repository."""
        for role in self._metadata.roles():
            for path, target in self._metadata.targets(role).signed.targets.items():
                directory, _, name = path.rpartition("/")
                yield self._directory / "targets" / directory / f"{target.hashes['sha256']}.{name}"

    def _send_file(self, path: Path, there: set[str]) -> list[str]:
        """Send what is missing of a file's messages; the digests of all of them."""
        digests = []

        def missing() -> Iterator[tuple[str, bytes]]:
            with _mapped(path) as data:
                for sha256, payload in messages(data):
                    digests.append(sha256)
                    if sha256 not in there:
                        there.add(sha256)
                        yield self._blob(sha256), payload

        self._send(missing())
        return digests

    def _send_metadata(self, ledger: Ledger) -> None:
        """Everything that the timestamp leads to, in the order in which devices may need it."""
        names, root = self._metadata.current_files()
        ledger.extra = []
        documents = {name: (self._directory / "metadata" / name).read_bytes() for name in names}
        documents = {f"{root + 1}.root.json": ABSENT, **documents}
        for name, data in documents.items():
            digest = sha256_hex(data)
            payload, chunks = _as_message(data)
            ledger.extra += [sha256 for sha256, _ in chunks]
            if ledger.metadata.get(name) != digest:
                self._send((self._blob(sha256), chunk) for sha256, chunk in chunks)
                self._send([(self._file(name), payload)])
                ledger.metadata[name] = digest
        self._check(names[-1], documents[names[-1]])
        ledger.metadata = {name: ledger.metadata[name] for name in documents}

    def _remove(self, gone: Iterable[str]) -> None:
        topics = [self._file(x) if x.endswith(".json") else self._blob(x) for x in sorted(gone)]
        self._thread.run(_publish(self._thread.link, ((topic, b"") for topic in topics)))
        self._done.removed += len(topics)

    def _send(self, batch: Iterable[tuple[str, bytes]]) -> None:
        count, size = self._thread.run(_publish(self._thread.link, batch))
        self._done.sent += count
        self._done.sent_bytes += size

    def _check(self, name: str, data: bytes) -> None:
        """Read the timestamp back: a broker may acknowledge and keep nothing."""
        if self._held(name) != data:
            hint = "Allow this client to publish retained messages below the prefix"
            raise NotReachable("the broker kept nothing of it", where=self._file(name), hint=hint)

    def _held(self, name: str) -> bytes | None:
        return next(self._thread.fetch([self._file(name)]))

    def _save(self, ledger: Ledger) -> None:
        write_atomically(self._path, msgspec.json.encode(ledger))

    def _file(self, name: str) -> str:
        return metadata_topic(self._prefix, name)

    def _blob(self, sha256: str) -> str:
        return blob_topic(self._prefix, sha256)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        yield data


def _as_message(data: bytes) -> tuple[bytes, list[tuple[str, bytes]]]:
    """A document's message, and the chunks that it names where it is too large for one."""
    if len(data) <= MAX_BYTES:
        return data, []
    parts = list(messages(memoryview(data)))
    return parts[-1][1], parts[:-1]


async def _publish(link: Link, batch: Iterable[tuple[str, bytes]]) -> tuple[int, int]:
    """Publish retained messages, a few in flight, each again until the broker has it.

    Returns:
        How many, and the bytes of their payloads.
    """
    free = asyncio.Semaphore(IN_FLIGHT)
    count = size = 0
    try:
        async with asyncio.TaskGroup() as group:
            for topic, payload in batch:
                await free.acquire()
                sending = group.create_task(_publish_one(link, topic, payload))
                sending.add_done_callback(lambda _: free.release())
                count, size = count + 1, size + len(payload)
    except ExceptionGroup as group_of:
        raise group_of.exceptions[0] from None
    return count, size


async def _publish_one(link: Link, topic: str, payload: bytes) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while True:
        answer: asyncio.Future[AgentError | None] = loop.create_future()
        if link.publish(topic, payload, retain=True, on_ack=answer.set_result):
            error = await answer
            if error is None:
                return
            if link.connected:  # it was the broker who said no
                raise error
        if loop.time() > deadline:
            raise NotReachable(str(link.reason or "the broker takes nothing"), where=link.broker)
        await asyncio.sleep(_RETRY_S)
