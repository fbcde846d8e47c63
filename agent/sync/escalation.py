"""Escalations: a question becomes a stored case and a message, and its answer comes back.

A case is committed with its message in one transaction, so that what a caller was told is asked will
be sent. An answer is acknowledged to the broker only after it is committed, and then told to whoever
waits.
"""

import asyncio
import logging
import sqlite3
from collections import defaultdict
from collections.abc import Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clock import Clock
from agent.errors import AgentError, NotFound, StorageFailed
from agent.ids import uuid7
from agent.store import audit, cases
from agent.store import outbox as outbox_table
from agent.store.cases import Case
from agent.store.db import Database
from agent.sync.asking import Answer, Asked, Frame, compose, parse_answer
from agent.sync.link import Incoming, Link
from agent.sync.policy import EscalationSettings, Policies
from agent.sync.topics import Topics
from agent.types import Event

if TYPE_CHECKING:
    from agent.telemetry.events import EventBus
    from agent.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

RETRY_S = 5.0  # until a failing disk is tried again
SHOWN = 1000  # cases in one list


class Escalations:
    """The device's cases."""

    def __init__(
        self,
        database: Database,
        *,
        topics: Topics,
        clock: Clock,
        events: "EventBus",
        metrics: "Metrics",
        settings: EscalationSettings | None = None,
        policies: Policies | None = None,
    ) -> None:
        self.settings = settings or EscalationSettings()
        self.policies = policies or Policies()
        self._db = database
        self._topics = topics
        self._clock = clock
        self._events = events
        self._waiting: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked = metrics.counter(
            "edge_agent_escalations_total", "Escalations that were opened", ("reason",)
        )
        self._answers = metrics.counter(
            "edge_agent_escalation_answers_total", "Answers to escalations that came", ("outcome",)
        )

    def start(self, link: Link) -> None:
        """Listen for answers."""
        link.subscribe(self._topics.answers, self._receive)

    async def close(self) -> None:
        """Finish what is being written. Idempotent."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def ask(self, asked: Asked, owner: int | None = None) -> tuple[Case, bool]:
        """Open a case, or find the one that a repeat is about.

        Args:
            asked: the question.
            owner: user that asks; None for the agent itself.

        Returns:
            The case, and whether it is new; it is on the disk, and so is its message.

        Raises:
            NotFound: there is no such policy.
            BadPayload, TooLarge: the question cannot be sent.
            BadRequest: the id was used for another question.
            TooMany: too many cases are open, or the outbox is full of escalations.
            StorageFailed: nothing was written.
        """
        policy = self.policies.named(asked.policy)
        redaction = self.settings.redaction
        frame = self._frame(asked, owner)
        case, message = await asyncio.to_thread(compose, asked, policy, redaction, frame)
        detail = {"id": case.id, "reason": asked.reason, "policy": policy.name, "owner": owner}

        def write(connection: sqlite3.Connection) -> Case | None:
            known = cases.open_case(connection, case)
            if known is None:
                outbox_table.insert(connection, [message])
                audit.append(connection, frame.now, "escalation.opened", detail)
            return known

        known = await self._db.write(write, urgent=True)
        if known is not None:
            return known, False
        self._asked.inc(1, asked.reason)
        self._publish("escalation.opened", detail)
        return case, True

    async def get(self, id_: str, owner: int | None = None) -> Case:
        """A case.

        Args:
            id_: of the case.
            owner: only if it is this user's; None for anybody's.

        Raises:
            NotFound: there is none that this user may see.
        """
        case = await self._db.read(lambda c: cases.read(c, id_))
        if case is None or owner not in {None, case.owner}:
            raise NotFound("there is no such escalation", where=id_[:128])
        return case

    async def newest(self, limit: int, state: cases.State | None = None) -> Sequence[Case]:
        """The newest cases first."""
        return await self._db.read(lambda c: cases.newest(c, min(limit, SHOWN), state))

    async def wait(self, case: Case, seconds: float) -> Case:
        """The case once it is answered, or as it stands when the time is over.

        Raises:
            NotFound: it was let go meanwhile.
        """
        if len(self._waiting) >= self.settings.max_waiting and case.id not in self._waiting:
            return case
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[case.id].add(told)
        try:
            found = await self.get(case.id)  # it may have been answered before we listened
            if found.state == "answered":
                return found
            await asyncio.wait((told,), timeout=seconds)
        finally:
            self._leave(case.id, told)
        return await self.get(case.id) if told.done() else found

    @property
    def waiting(self) -> int:
        """Cases whose answer somebody waits for now."""
        return len(self._waiting)

    def _leave(self, id_: str, told: "asyncio.Future[None]") -> None:
        self._waiting[id_].discard(told)
        if not self._waiting[id_]:
            del self._waiting[id_]

    def _frame(self, asked: Asked, owner: int | None) -> Frame:
        message = uuid7(self._clock)
        id_ = asked.id or message
        topic = self._topics.escalation(id_)
        now, deadline_s = self._clock.wall(), self.settings.deadline_s
        return Frame(self._topics.device, message, topic, id_, owner, now, deadline_s)

    # Answers.

    def _receive(self, message: Incoming) -> None:
        id_ = message.topic.split("/")[-2]
        try:
            answer = parse_answer(message.payload)
        except AgentError as error:
            self._refuse(id_, error)
            message.ack()
            return
        self._spawn(self._settle(id_, answer, message))

    async def _settle(self, id_: str, answer: Answer, message: Incoming) -> None:
        """Commit, acknowledge, tell. A failing disk leaves the message with the broker meanwhile."""
        while True:
            try:
                case = await self._db.write(partial(self._write, id_, answer), urgent=True)
                break
            except StorageFailed as error:
                log.warning("an answer cannot be written: %s", error)
                await self._clock.sleep(RETRY_S)
        message.ack()
        self._answers.inc(1, "taken" if case else "passed over")
        if case is None:
            log.info("an answer was passed over", extra={"escalation": id_})
            return
        for told in tuple(self._waiting.get(id_, ())):
            if not told.done():
                told.set_result(None)
        detail = {"id": id_, "by": case.source, "late": self._clock.wall() > case.deadline}
        self._publish("escalation.answered", detail)

    def _write(self, id_: str, answer: Answer, connection: sqlite3.Connection) -> Case | None:
        now = self._clock.wall()
        case = cases.answer(connection, id_, bytes(answer.answer), answer.by, now)
        if case is not None:
            audit.append(connection, now, "escalation.answered", {"id": id_, "by": answer.by})
        return case

    def _refuse(self, id_: str, error: AgentError) -> None:
        self._answers.inc(1, "refused")
        log.warning("an answer was refused: %s", error, extra={"escalation": id_[:128]})
        self._publish("escalation.refused", {"id": id_[:128], **error.to_dict()})

    def _publish(self, kind: str, detail: dict[str, Any]) -> None:
        self._events.publish(Event(kind, self._clock.wall(), detail))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
