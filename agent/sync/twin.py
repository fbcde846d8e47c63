"""The device's twin: what the operator desires takes effect, is kept, and is reported.

Documents have versions that only rise. A desired document comes whole, or as a merge patch (RFC 7396)
on the version before it. The report is retained at the broker and published anew with each connection,
so that it is never older than the connection.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from agent import __version__
from agent.clock import Clock, rfc3339
from agent.errors import AgentError, BadPayload, RolledBack, StorageFailed, TooLarge
from agent.store import audit
from agent.store import twin as twin_table
from agent.store.db import Database
from agent.store.twin import TwinRow
from agent.sync.desired import MAX_BYTES, Group, Path, Rejected, nested, pointer, settle
from agent.sync.link import Incoming, Link
from agent.sync.merge_patch import merge
from agent.sync.pace import Pace
from agent.sync.topics import Topics
from agent.types import Event

if TYPE_CHECKING:
    from agent.telemetry.events import EventBus

log = logging.getLogger(__name__)

RETRY_S = 5.0  # until a failing disk, or a link that is full, is tried again
PER_SECOND = 5.0  # documents looked at, on average: each is a commit and a report


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """A desired document as it comes.

    Attributes:
        version: higher than the one before.
        desired: all of it; or
        patch: what is to change in the version `base`.
        base: version that the patch is for.
    """

    version: Annotated[int, Meta(ge=1, lt=1 << 53)]
    desired: dict[str, Any] | None = None
    patch: dict[str, Any] | None = None
    base: int | None = None


class Twin:
    """What is desired of this device, and what became of it."""

    def __init__(
        self, database: Database, *, topics: Topics, clock: Clock, events: "EventBus"
    ) -> None:
        self._db = database
        self._topics = topics
        self._clock = clock
        self._events = events
        self._link: Link | None = None
        self._groups: Sequence[Group] = ()
        self._applied: dict[Path, Mapping[str, Any]] = {}
        self._row = TwinRow(0, b"{}", 0)
        self._report = b""
        self._inbox: asyncio.Queue[Incoming] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()
        self._was_connected = False
        self._pace = Pace(8 * PER_SECOND, clock.monotonic())

    def start(self, link: Link) -> None:
        """Listen; what comes waits until there are settings to apply it to."""
        self._link = link
        link.subscribe(self._topics.desired, self._inbox.put_nowait)

    async def serve(self, groups: Sequence[Group]) -> None:
        """Apply what was desired before, and go on with what comes.

        Raises:
            StorageFailed: the twin cannot be read.
        """
        self._groups = groups
        self._applied = {group.path: group.defaults for group in groups}
        self._row = await self._db.read(twin_table.read)
        self._compose(self._row.reports, self._apply(_decoded(self._row.desired)))
        if self._link is not None:
            self._link.on_state(self._link_changed)
            self._link_changed()
        self._spawn(self._work())

    async def close(self) -> None:
        """Take no more. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def settings(self) -> dict[str, Any]:
        """The values that hold now."""
        return nested(self._applied)

    # What is desired.

    async def _work(self) -> None:
        while True:
            message = await self._inbox.get()
            if (delay_s := self._pace.delay(self._clock.monotonic())) > 0:
                await self._clock.sleep(delay_s)  # the broker holds the others back meanwhile
            self._pace.take(1)
            try:
                await self._take(message.payload)
            except Exception:  # a mistake of ours must not silence the device
                log.exception("a desired document failed")
            message.ack()

    async def _take(self, payload: bytes) -> None:
        if not payload:
            return  # the retained document was taken back; what it said stays
        try:
            version, desired = read_document(payload, self._row)
        except AgentError as error:
            log.warning("a desired document was refused: %s", error)
            await self._publish_report([Rejected("", str(error))])
            return
        if (version, desired) == (self._row.version, _decoded(self._row.desired)):
            return  # with every connection it comes again
        await self._keep(version, desired)
        rejected = self._apply(desired)
        await self._publish_report(rejected)
        detail = {"version": version, "rejected": [part.path for part in rejected]}
        self._events.publish(Event("twin.applied", self._clock.wall(), detail))

    async def _keep(self, version: int, desired: Mapping[str, Any]) -> None:
        """On the disk before it takes effect, so that a restart does not undo it."""
        encoded, now = msgspec.json.encode(desired), self._clock.wall()

        def write(connection: Any) -> TwinRow:
            twin_table.save_desired(connection, version, encoded)
            audit.append(connection, now, "twin.desired", {"version": version})
            return twin_table.read(connection)

        self._row = await self._surely(write)

    def _apply(self, desired: Mapping[str, Any]) -> list[Rejected]:
        """Make the values real, group by group; what does not go together stays as it was."""
        values, rejected = settle(desired, self._groups)
        for group in self._groups:
            if values[group.path] == self._applied[group.path]:
                continue
            try:
                group.apply(values[group.path])
                self._applied[group.path] = values[group.path]
            except AgentError as error:
                rejected.append(Rejected(pointer(group.path), str(error)))
        return rejected

    # What is reported.

    async def _publish_report(self, rejected: Sequence[Rejected]) -> None:
        self._compose(await self._surely(twin_table.next_report), rejected)
        self._send()

    def _compose(self, number: int, rejected: Sequence[Rejected]) -> None:
        document = {
            "device": self._topics.device,
            "time": rfc3339(self._clock.wall()),
            "version": number,
            "desired": self._row.version,
            "agent": __version__,
            "settings": self.settings,
            "rejected": [{"path": part.path, "reason": part.reason} for part in rejected],
        }
        self._report = msgspec.json.encode(document)

    def _link_changed(self) -> None:
        assert self._link is not None
        if self._link.connected and not self._was_connected:
            self._send()
        self._was_connected = self._link.connected

    def _send(self) -> None:
        """Nothing is lost where it does not go: it goes with the next connection."""
        if self._link is None or not self._link.connected:
            return
        topic = self._topics.reported
        if not self._link.publish(topic, self._report, retain=True, on_ack=self._reported):
            asyncio.get_running_loop().call_later(RETRY_S, self._send)

    @staticmethod
    def _reported(error: AgentError | None) -> None:
        if error is not None:
            log.info("the twin's report was not taken: %s", error)

    async def _surely(self, write: Any) -> Any:
        while True:
            try:
                return await self._db.write(write, urgent=True)
            except StorageFailed as error:
                log.warning("the twin cannot be written: %s", error)
                await self._clock.sleep(RETRY_S)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def read_document(payload: bytes, row: TwinRow) -> tuple[int, dict[str, Any]]:
    """The version, and all that is desired after it.

    Args:
        payload: as it came.
        row: what was desired before.

    Raises:
        TooLarge: it is over 64 KiB.
        BadPayload: it is no document, or a patch for another version.
        RolledBack: its version is not new, and it is not the document of that version.
    """
    if len(payload) > MAX_BYTES:
        raise TooLarge(f"a desired document of {len(payload)} bytes is over {MAX_BYTES} bytes")
    try:
        document = msgspec.json.decode(payload, type=Document)
        if (document.desired is None) == (document.patch is None):
            raise BadPayload("has either `desired` or `patch`")
        desired = document.desired
        if desired is None:
            _check_base(document, row)
            desired = merge(_decoded(row.desired), document.patch)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise BadPayload(f"not a desired document: {error}") from None
    same = document.version == row.version and desired == _decoded(row.desired)
    if document.version <= row.version and not same:
        raise RolledBack(f"version {document.version} is not newer than {row.version}")
    return document.version, desired


def _check_base(document: Document, row: TwinRow) -> None:
    if document.base != row.version:
        raise BadPayload(f"the patch is for version {document.base}, this device has {row.version}")


def _decoded(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(data, type=dict[str, Any])
    return found
