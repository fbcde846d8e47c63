"""Runs the pipelines: readings wait, are scored in a thread, committed, and only then acknowledged.

One round takes what waits, a batch of each stream. Scoring happens in one worker thread, so that the
event loop goes on reading sockets; the streams' states and everything that the batch sends are
committed in one transaction for each stream (the database puts them into one commit); then whoever
handed readings in is told. A crash at any moment therefore leaves readings either unacknowledged or
in effect, and what a source sends again after a crash is known by its content.

A batch that cannot be committed is undone, and its readings are refused with the reason. While a
batch of one stream is on its way to the disk, others are scored; what comes for it meanwhile gathers:
the busier the device, the larger the batches.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.clock import Clock
from agent.errors import AgentError, NotReady, TooLarge
from agent.pipelines.entries import Done, Entry, Receipt, Single
from agent.pipelines.instruments import Instruments
from agent.pipelines.loading import Loading
from agent.pipelines.messages import Sender, Topics
from agent.pipelines.relearning import Relearning
from agent.pipelines.scoring import explained, score, tell
from agent.pipelines.spec import PipelineLimits, PipelineSpec
from agent.pipelines.stream import Stream, StreamStatus, Work
from agent.pipelines.streams import MakeDetector, Streams
from agent.pipelines.waiting import Waiting
from agent.pipelines.writing import KEY, write_work
from agent.store import streams as streams_table
from agent.types import Event, Rows

if TYPE_CHECKING:
    from agent.registry import Models
    from agent.store.db import Database
    from agent.telemetry.events import EventBus
    from agent.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)


class Pipelines:
    """All streams of the device."""

    def __init__(
        self,
        specs: Sequence[PipelineSpec],
        *,
        models: "Models",
        database: "Database",
        clock: Clock,
        metrics: "Metrics",
        events: "EventBus",
        topics: Topics,
        make_detector: MakeDetector,
        limits: PipelineLimits | None = None,
    ) -> None:
        self._specs = tuple(specs)
        self._models = Loading(models, clock)
        self._database = database
        self._clock = clock
        self._events = events
        self._limits = limits or PipelineLimits()
        self._instruments = Instruments(metrics)
        self._waiting = Waiting(self._limits)
        self._streams = Streams(
            self._specs,
            models=self._models,
            make_detector=make_detector,
            sender=Sender(topics, clock),
            limits=self._limits,
            instruments=self._instruments,
            clock=clock,
        )
        metrics.gauge_callback(
            "edge_agent_rows_waiting", "Rows that wait to be scored", lambda: self._waiting.rows
        )
        metrics.gauge_callback(
            "edge_agent_streams", "Streams that are watched", lambda: len(self._streams)
        )
        self._forgetting: set[asyncio.Task[None]] = set()
        self._flush: set[str] = set()
        self._flush_timers: dict[str, asyncio.TimerHandle] = {}
        self._settling: dict[str, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()
        self._round_s = 0.01
        self._accepting = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="score")
        self._relearning = Relearning(database, self._thread)

    async def start(self) -> None:
        """Load the pipelines' models and go on with the streams that are known.

        A model that cannot be used is no reason not to start: it is noted in `problems`, and tried
        again from time to time and when readings come.

        Raises:
            StorageFailed: the streams' states cannot be read.
        """
        stored = await self._database.read(streams_table.load_all)
        self._streams.stored = {
            name.removeprefix(KEY): state for name, state in stored.items() if name.startswith(KEY)
        }
        await self._models.start(self._specs)
        await self._streams.resume()
        self._accepting = True
        for stream in self._streams.all():
            self._watch_grid(stream)
        self._task = asyncio.create_task(self._run(), name="pipelines")

    async def close(self) -> None:
        """Take nothing more, finish what waits, end the thread. Idempotent."""
        self._accepting = False
        for timer in self._flush_timers.values():
            timer.cancel()
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await asyncio.gather(*self._forgetting)
        await self._models.close()
        self._thread.shutdown()

    async def submit(self, rows: Rows) -> Receipt:
        """Hand rows in; returns when they are scored and everything they cause is on the disk.

        Raises:
            NotFound: no pipeline takes the stream.
            TooMany: too much waits already, or there are too many streams.
            StorageFailed: nothing could be written; the rows have had no effect.
            NotReady: the agent is starting or stopping, or the model cannot be used now.
        """
        told: asyncio.Future[Receipt | AgentError] = asyncio.get_running_loop().create_future()

        def done(result: Receipt | AgentError) -> None:
            if not told.done():
                told.set_result(result)

        self._add(rows.stream, Entry(rows, done, exact=True))
        result = await told
        if isinstance(result, AgentError):
            raise result
        return result

    def offer(self, stream: str, item: Rows | Single, done: Done) -> None:
        """Hand in rows, or one sensor's reading, without waiting; for sources of many small ones.

        Args:
            stream: the stream they belong to.
            item: what came.
            done: called once in the event loop, after the commit or with what prevented it.

        Raises:
            NotFound, TooMany, NotReady: as `submit`; `done` is not called.
        """
        self._add(stream, Entry(item, done))

    async def relearn(self, stream: str) -> bool:
        """Have a stream learn anew what is normal, for example after a repair.

        Returns:
            Whether the stream is watched now; False where only what was stored of it is forgotten.

        Raises:
            NotFound: there is no such stream.
            StorageFailed: nothing was written, and nothing forgotten.
            NotReady: the agent is stopping.
        """
        if not self._accepting:
            raise NotReady("the agent is starting or stopping")
        told = self._relearning.request(stream)
        self._wake.set()
        return await told

    def retune(self, pipeline: str, values: Mapping[str, Any]) -> None:
        """Have a pipeline go on by other settings, from the next rows of each of its streams on.

        Raises:
            BadConfig: the values do not go together; nothing has changed.
        """
        self._streams.retune(pipeline, values)
        self._wake.set()

    def status(self) -> list[StreamStatus]:
        """How each stream stands, by name."""
        return [stream.status() for stream in self._streams.all()]

    @property
    def problems(self) -> dict[str, AgentError]:
        """Pipeline -> why its model cannot be used now."""
        return self._models.problems

    @property
    def waiting_rows(self) -> int:
        """Rows that wait to be scored."""
        return self._waiting.rows

    def refused(self, error: AgentError, source: str) -> None:
        """Note a payload that a source could not take; the source has no one else to tell."""
        self._instruments.refused.inc(1, error.code)
        _log.warning("readings refused: %s", error, extra={"source": source})
        self._events.publish(
            Event("readings.refused", self._clock.wall(), {"source": source, **error.to_dict()})
        )

    # Taking in.

    def _add(self, stream: str, entry: Entry) -> None:
        if not self._accepting:
            raise NotReady("the agent is starting or stopping")
        if stream not in self._streams:
            self._admit(stream)
        self._waiting.add(stream, entry, retry_after_s=self._drain_s())
        self._wake.set()

    def _admit(self, stream: str) -> None:
        """Refuse at the door what no round could take; a stream that was idle may make room."""
        busy = self._settling.keys() | self._waiting.names
        forgotten = self._streams.admit(stream, busy)
        if forgotten is not None:
            task = asyncio.create_task(self._forget(forgotten), name="forget a stream")
            self._forgetting.add(task)
            task.add_done_callback(self._forgetting.discard)

    async def _forget(self, name: str) -> None:
        try:
            await self._database.write(lambda c: streams_table.forget(c, KEY + name))
        except AgentError as error:  # it will be known again after a restart, and go again
            _log.warning("a stream's state stays: %s", error, extra={"stream": name})

    def _drain_s(self) -> float:
        """Roughly how long the queue takes to drain, seconds."""
        rounds = 1 + self._waiting.rows / self._limits.batch_rows
        return min(max(rounds * self._round_s, 0.1), 30.0)

    # Rounds.

    async def _run(self) -> None:
        while self._accepting or self._waiting or self._settling:
            await self._wake.wait()
            self._wake.clear()
            while True:
                await self._relearning.run_due(self._streams, self._settling)
                self._streams.tune()
                if not (batches := self._take()):
                    break
                await self._round(batches)
        self._relearning.close()

    def _take(self) -> dict[str, list[Entry]]:
        """What waits, but for streams whose last batch is still on its way to the disk."""
        batches = self._waiting.take(self._settling.keys())
        for name in self._flush - self._settling.keys():
            batches.setdefault(name, [])
        return batches

    async def _round(self, batches: Mapping[str, list[Entry]]) -> None:
        flush = self._flush & batches.keys()
        self._flush -= flush
        with ExitStack() as holds:  # no model goes while it scores
            ready = await self._opened(batches, holds)
            began = self._clock.monotonic()
            done = await asyncio.get_running_loop().run_in_executor(
                self._thread,
                score,
                [(stream, entries, stream.name in flush) for stream, entries in ready],
            )
        self._instruments.score_s.observe(self._clock.monotonic() - began)
        for stream, entries, work in done:
            task = asyncio.create_task(self._settle(stream, entries, work, began))
            self._settling[stream.name] = task
            task.add_done_callback(partial(self._settled, stream.name))

    def _settled(self, name: str, _: asyncio.Task[None]) -> None:
        del self._settling[name]
        self._wake.set()

    async def _settle(
        self, stream: Stream, entries: Sequence[Entry], work: Work, began: float
    ) -> None:
        """Commit one stream's batch, then tell."""
        scored = self._clock.monotonic()
        try:
            await self._commit(stream.name, work)
        except Exception as error:  # noqa: BLE001 (whoever waits must be told, whatever it was)
            await asyncio.get_running_loop().run_in_executor(self._thread, stream.undo)
            tell(entries, [explained(error, stream.name)] * len(entries))
            return
        committed = self._clock.monotonic()
        self._instruments.commit_s.observe(committed - scored)
        self._round_s = committed - began
        stream.commit(work.state)
        self._instruments.count(work)
        for event in work.events:
            self._events.publish(event)
        tell(entries, work.results)
        self._watch_grid(stream)

    async def _commit(self, name: str, work: Work) -> None:
        urgent = any(message.kind != "telemetry" for message in work.messages)
        try:
            await self._database.write(partial(write_work, name=name, work=work), urgent=urgent)
        except TooLarge as error:  # the operator's matter, not the sender's
            raise NotReady(f"the stream cannot be kept: {error}", where=name) from error

    def _watch_grid(self, stream: Stream) -> None:
        """Close the last rows of a grid when its sensors fall silent."""
        if timer := self._flush_timers.pop(stream.name, None):
            timer.cancel()
        if stream.pending and self._accepting:
            align = stream.spec.align
            self._flush_timers[stream.name] = asyncio.get_running_loop().call_later(
                max(1.0, align.period_s + align.wait_s), self._flush_now, stream.name
            )

    def _flush_now(self, name: str) -> None:
        self._flush_timers.pop(name, None)
        self._flush.add(name)
        self._wake.set()

    async def _opened(
        self, batches: Mapping[str, list[Entry]], holds: ExitStack
    ) -> list[tuple[Stream, list[Entry]]]:
        """The streams of the batches, opened as needed; entries of those that cannot be are told."""
        ready = []
        for name, entries in batches.items():
            try:
                stream, hold = await self._streams.take(name)
                holds.enter_context(hold)
            except Exception as error:  # noqa: BLE001 (one stream must not end the others)
                tell(entries, [explained(error, name)] * len(entries))
            else:
                ready.append((stream, entries))
        return ready
