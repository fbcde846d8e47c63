"""A repository in the retained messages of a broker.

    {prefix}/tuf/timestamp        metadata, by role and version; what does not exist may say so:
    {prefix}/tuf/{role}/{version}   `ABSENT`
    {prefix}/blob/{sha256}        a chunk, or the list of something's chunks (`chunks`)

So the brokers are the distribution network: a device asks for the chunks that it lacks, a download
that was cut goes on with the next chunk, and of a new version only what changed is fetched.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from agent.errors import Altered, NotFound, NotReachable
from agent.trust.chunks import MAX_BYTES, MAX_DEPTH, Entry, decode_list, is_list
from agent.trust.digest import sha256_hex
from agent.trust.source import Source, inside

#: Retained messages by topic, in the order asked for; None for one that is not there.
Fetch = Callable[[Iterable[str]], Iterator[bytes | None]]
#: Chunks that this device has already, by their SHA-256.
Known = Mapping[str, bytes]

#: Retained under the name of the root that is not signed yet, so that nobody has to wait for it.
ABSENT = b"null"


class RetainedSource(Source):
    """A repository below a topic.

    Args:
        fetch: asks the broker.
        prefix: what the topics begin with.
        known: what need not be fetched.
    """

    def __init__(self, fetch: Fetch, prefix: str, known: Known | None = None) -> None:
        self._fetch = fetch
        self._prefix = prefix
        self._known = known or {}

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        kind, _, rest = inside(path).partition("/")
        if kind == "metadata":
            return self._metadata(rest, offset)
        digest = rest.rpartition("/")[2].partition(".")[0]
        if kind != "targets" or len(digest) != 64:
            raise NotFound("a broker holds files by their digest only", where=path)
        return self._whole(digest, offset)

    def _metadata(self, name: str, offset: int) -> Iterator[bytes]:
        topic = metadata_topic(self._prefix, name)
        (payload,) = self._fetch([topic])
        if payload is None or payload == ABSENT:
            raise NotFound("the broker has no such file", where=topic)
        if is_list(payload):
            yield from self._parts(decode_list(payload, topic), offset, MAX_DEPTH)
        else:
            yield payload[offset:]

    def _whole(self, sha256: str, offset: int) -> Iterator[bytes]:
        """A file whose length the broker does not know; the reader compares it with the signed one."""
        (payload,) = self._fetch([self._topic(sha256)])
        if payload is not None and sha256_hex(payload) == sha256:
            yield payload[offset:]
        else:
            where = self._topic(sha256)
            entries = decode_list(self._present(payload, sha256), where)
            yield from self._parts(entries, offset, MAX_DEPTH)

    def _parts(self, entries: Sequence[Entry], offset: int, depth: int) -> Iterator[bytes]:
        """The bytes of a list's parts from `offset` on; those before it are not asked for."""
        needed, skip = _after(entries, offset)
        for entry, payload in self._payloads(needed):
            if entry.size > MAX_BYTES:
                parts = self._list(entry, payload, depth)
                yield from self._parts(parts, skip, depth - 1)
            else:
                yield self._chunk(entry, payload)[skip:]
            skip = 0

    def _payloads(self, entries: Sequence[Entry]) -> Iterator[tuple[Entry, bytes | None]]:
        """Each entry's payload, from this device where it has the chunk, else from the broker."""
        missing = [entry.sha256 not in self._known for entry in entries]
        asked = itertools.compress(entries, missing)
        arriving = self._fetch([self._topic(entry.sha256) for entry in asked])
        for entry, is_missing in zip(entries, missing, strict=True):
            if is_missing:
                yield entry, next(arriving)
            elif (have := self._known.get(entry.sha256)) is not None:
                yield entry, have
            else:  # it has been damaged or removed since
                yield entry, next(self._fetch([self._topic(entry.sha256)]))

    def _chunk(self, entry: Entry, payload: bytes | None) -> bytes:
        found = self._present(payload, entry.sha256)
        if len(found) != entry.size or sha256_hex(found) != entry.sha256:
            raise Altered("the chunk is not what its name says", where=self._topic(entry.sha256))
        return found

    def _list(self, entry: Entry, payload: bytes | None, depth: int) -> tuple[Entry, ...]:
        where = self._topic(entry.sha256)
        if depth == 0:
            raise Altered(f"lists are nested deeper than {MAX_DEPTH}", where=where)
        return decode_list(self._present(payload, entry.sha256), where, entry.size)

    def _present(self, payload: bytes | None, sha256: str) -> bytes:
        if payload is None:
            hint = "Publish again: edge-fleet mirror --all"
            where = self._topic(sha256)
            raise NotReachable("the broker does not have this part", where=where, hint=hint)
        return payload

    def _topic(self, sha256: str) -> str:
        return blob_topic(self._prefix, sha256)


def _after(entries: Sequence[Entry], offset: int) -> tuple[Sequence[Entry], int]:
    """The entries that reach beyond `offset`, and how many bytes of the first lie before it."""
    for index, entry in enumerate(entries):
        if offset < entry.size:
            return entries[index:], offset
        offset -= entry.size
    return (), 0


def blob_topic(prefix: str, sha256: str) -> str:
    """Where a chunk or a list is retained."""
    return f"{prefix}/blob/{sha256}"


def metadata_topic(prefix: str, name: str) -> str:
    """Where a metadata file is retained; without dots, at which some brokers hang up.

    Args:
        prefix: of all topics.
        name: of the file, ``3.targets.json``; it may come from metadata that nobody verified yet.

    Raises:
        NotFound: a broker cannot hold a file of this name.
    """
    stem = name.removesuffix(".json").replace("%", "%25")
    version, _, role = stem.partition(".") if stem[:1].isdecimal() else ("", "", stem)
    levels = [role.replace(".", "%2E"), *([version] if version else [])]
    if any(not level or not level.isprintable() or set("/+#$ ") & set(level) for level in levels):
        raise NotFound("a broker cannot hold a file of this name", where=name[:200])
    return "/".join([prefix, "tuf", *levels])
