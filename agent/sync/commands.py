"""Commands: signed by the operator, carried out once, answered through the outbox.

A command is acknowledged to the broker after its result is committed, together with the message that
carries it. One that comes again is answered with the same result and not carried out again.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agent.clock import Clock, rfc3339
from agent.errors import (
    AgentError,
    BadPayload,
    Expired,
    NotFound,
    Refused,
    StorageFailed,
    TooLarge,
    TooMany,
    TooSlow,
)
from agent.ids import uuid7
from agent.store import audit
from agent.store import commands as commands_table
from agent.store import outbox as outbox_table
from agent.store.commands import Done
from agent.store.db import Database
from agent.sync.link import Incoming, Link
from agent.sync.orders import CommandSettings, Order, open_order, parse_keys
from agent.sync.pace import Pace
from agent.sync.topics import Topics
from agent.types import Event, Message

if TYPE_CHECKING:
    from agent.telemetry.events import EventBus
    from agent.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Carries a command out; raises AgentError.
Verb = Callable[[Mapping[str, Any]], Awaitable[Any]]

MAX_QUEUED = 16  # commands that wait for their turn
MAX_RESULT = 120 << 10  # bytes of JSON
RETRY_S = 5.0  # until a failing disk is tried again


@dataclass(frozen=True, slots=True)
class _Job:
    order: Order
    ack: Callable[[], None]


class Commands:
    """The operator's commands to this device."""

    def __init__(
        self,
        database: Database,
        *,
        topics: Topics,
        clock: Clock,
        events: "EventBus",
        metrics: "Metrics",
        settings: CommandSettings,
        not_before: Callable[[], float] = float,
    ) -> None:
        """Prepare.

        Args:
            database: of the device.
            topics: of the device.
            clock: its wall time is data; expiry is judged by the latest time known.
            events: hear of every command.
            metrics: count them.
            settings: who may send them.
            not_before: a wall time that is known to have been, seconds since the epoch.
        """
        self._db = database
        self._topics = topics
        self._clock = clock
        self._events = events
        self._settings = settings
        self._not_before = not_before
        self._keys = parse_keys(settings.keys)
        self._pace = Pace(8 * settings.per_second, clock.monotonic())
        self._verbs: Mapping[str, Verb] = {}
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue(MAX_QUEUED)
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: set[str] = set()
        self._counted = metrics.counter(
            "edge_agent_commands_total", "Commands that came from the cloud", ("outcome",)
        )

    def start(self, link: Link) -> None:
        """Listen; what comes waits until there are verbs."""
        link.subscribe(self._topics.commands, self._receive)

    def serve(self, verbs: Mapping[str, Verb]) -> None:
        """Begin to carry out what comes, one after the other."""
        self._verbs = verbs
        self._spawn(self._work())

    async def close(self) -> None:
        """Carry out no more; what is not answered comes again. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What comes in.

    def _receive(self, message: Incoming) -> None:
        now = self._clock.monotonic()
        if self._pace.delay(now) > 0:  # before any signature is computed
            self._counted.inc(1, "dropped")
            log.warning("commands come faster than they are looked at; some are dropped unread")
            message.ack()
            return
        self._pace.take(1)
        self._spawn(self._admit(message))

    async def _admit(self, message: Incoming) -> None:
        """Check a command and put it in line; whatever is wrong with it, it is acknowledged."""
        try:
            order = await self._opened(message)
        except Expired as error:
            self._refuse(message.topic, error)
            name, id_ = message.topic.split("/")[-2:]
            await self._answer_only(name, id_, _failure(error))
            message.ack()
        except AgentError as error:
            self._refuse(message.topic, error)
            message.ack()
        else:
            await self._queue(_Job(order, message.ack))

    async def _opened(self, message: Incoming) -> Order:
        floor = await self._db.read(commands_table.floor)
        now = max(self._clock.wall(), floor, self._not_before())
        order = open_order(message.payload, self._keys, self._topics.device, now)
        claims = order.claims
        if self._topics.command(claims.cmd, claims.jti) != message.topic:
            raise Refused("it was signed for another topic", where=claims.jti)
        return order

    async def _queue(self, job: _Job) -> None:
        claims = job.order.claims
        if job.order.digest in self._known:
            job.ack()  # the same one is in line; its answer will be the answer to both
            return
        try:
            self._jobs.put_nowait(job)
            self._known.add(job.order.digest)
        except asyncio.QueueFull:
            error = TooMany(f"{MAX_QUEUED} commands wait already", where=claims.jti)
            self._refuse(self._topics.command(claims.cmd, claims.jti), error)
            await self._answer_only(claims.cmd, claims.jti, _failure(error))
            job.ack()

    # Carrying out.

    async def _work(self) -> None:
        while True:
            job = await self._jobs.get()
            try:
                await self._carry_out(job.order)
                job.ack()
            except Exception:  # a mistake of ours must not silence the device
                log.exception("a command failed", extra={"command": job.order.claims.jti})
                job.ack()
            finally:
                self._known.discard(job.order.digest)

    async def _carry_out(self, order: Order) -> None:
        claims = order.claims
        done = await self._db.read(lambda c: commands_table.find(c, claims.jti))
        if done is None:
            result = await self._result(order)
            outcome = "done" if result["ok"] else "failed"
        elif done.digest == order.digest:
            self._counted.inc(1, "repeated")
            await self._answer_only(claims.cmd, claims.jti, msgspec.json.decode(done.result))
            return
        else:
            error = Refused("another command had this id", where=claims.jti)
            self._refuse(self._topics.command(claims.cmd, claims.jti), error)
            await self._answer_only(claims.cmd, claims.jti, _failure(error))
            return
        await self._commit(order, result)
        self._counted.inc(1, outcome)
        detail = {"id": claims.jti, "command": claims.cmd, "ok": result["ok"]}
        self._events.publish(Event("command.done", self._clock.wall(), detail))

    async def _result(self, order: Order) -> dict[str, Any]:
        claims = order.claims
        log.info("a command is carried out", extra={"command": claims.cmd, "id": claims.jti})
        try:
            verb = self._verbs.get(claims.cmd)
            if verb is None:
                known = ", ".join(sorted(self._verbs))
                raise NotFound("there is no such command", where=claims.cmd, hint=f"Known: {known}")
            async with asyncio.timeout(self._settings.timeout_s):
                result = {"ok": True, "result": await verb(claims.args)}
            size = len(msgspec.json.encode(result, enc_hook=str))
            if size > MAX_RESULT:
                raise TooLarge(f"the result has {size} bytes, {MAX_RESULT} can be sent")
        except TimeoutError:
            return _failure(TooSlow(f"it took longer than {self._settings.timeout_s:g} s"))
        except AgentError as error:
            return _failure(error)
        return result

    async def _commit(self, order: Order, result: Mapping[str, Any]) -> None:
        """Command, answer and log in one transaction, tried until the disk takes it."""
        claims = order.claims
        encoded = msgspec.json.encode(result, enc_hook=str)
        done = Done(claims.jti, claims.cmd, order.digest, claims.exp, encoded)
        detail = {"id": claims.jti, "command": claims.cmd, "key": order.key, "ok": result["ok"]}
        message = self._message(claims.cmd, claims.jti, result)

        def write(connection: sqlite3.Connection) -> None:
            commands_table.remember(connection, done)
            outbox_table.insert(connection, [message])
            audit.append(connection, self._clock.wall(), "command.done", detail)

        await self._surely(write)

    async def _answer_only(self, name: str, id_: str, result: Mapping[str, Any]) -> None:
        message = self._message(name, id_, result)
        await self._surely(lambda c: outbox_table.insert(c, [message]))

    async def _surely(self, write: Callable[[sqlite3.Connection], None]) -> None:
        while True:
            try:
                return await self._db.write(write, urgent=True)
            except (StorageFailed, TooMany) as error:
                log.warning("the answer to a command cannot be written: %s", error)
                await self._clock.sleep(RETRY_S)

    def _message(self, name: str, id_: str, result: Mapping[str, Any]) -> Message:
        message, now = uuid7(self._clock), self._clock.wall()
        head = {
            "id": message,
            "device": self._topics.device,
            "time": rfc3339(now),
            "class": "report",
            "kind": "command",
            "command": name,
            "command_id": id_,
        }
        payload = msgspec.json.encode({**head, **result}, enc_hook=str)
        return Message(message, "report", self._topics.result(name, id_), payload, now)

    def _refuse(self, topic: str, error: AgentError) -> None:
        """Note a command that is not carried out; who sent it is not known, so nobody is told."""
        self._counted.inc(1, "refused")
        name, id_ = topic.split("/")[-2:]
        log.warning("a command was refused: %s", error, extra={"command": name, "id": id_})
        detail = {"id": id_, "command": name, **error.to_dict()}
        self._events.publish(Event("command.refused", self._clock.wall(), detail))

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _failure(error: AgentError) -> dict[str, Any]:
    return {"ok": False, "error": error.to_dict()}


def only(arguments: Mapping[str, Any], **kinds: type) -> dict[str, Any]:
    """The arguments of a command, of the kinds that are said; any may be left out.

    Raises:
        BadPayload: there is another one, or one of another kind.
    """
    for name, value in arguments.items():
        if name not in kinds or type(value) is not kinds[name]:
            raise BadPayload("is no argument of this command, or of another kind", where=name[:64])
    return dict(arguments)
