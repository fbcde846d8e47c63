"""The composition root: builds every room, starts them in order and stops them in reverse.

Nothing else in the agent knows how the parts fit together. `App.start` reads as one list; whatever
was started is closed in reverse, and a part that fails to close is logged and never keeps the others
open. Readings and requests are refused first, the store closes last, so that everything before it
can still write.
"""

import asyncio
import contextlib
import dataclasses
import fcntl
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

from agent import __version__, logs
from agent.api import gauges
from agent.api.server import ApiServer
from agent.api.service import Service
from agent.clock import Clock, SystemClock
from agent.config.settings import Config, SourceSettings
from agent.errors import AgentError, NotReady, StorageFailed
from agent.identity.enrolment import Enrolment
from agent.identity.folder import IdentityFolder
from agent.identity.renewal import Renewal
from agent.memory import settle
from agent.notify import notify
from agent.pipelines.runner import Pipelines
from agent.pipelines.sources.mqtt import MqttSource
from agent.pipelines.spec import PipelineSpec
from agent.registry import LoadedModel, Models, Registry
from agent.registry.following import Following
from agent.store.db import Database
from agent.store.outbox import Outbox
from agent.sync.link import Link
from agent.sync.settings import LinkSettings, Will
from agent.sync.sparkplug.commands import obey
from agent.sync.sparkplug.session import NodeName, SparkplugWire
from agent.sync.topics import Topics
from agent.sync.uplink import Uplink
from agent.tasks.anomaly import AnomalyDetector
from agent.telemetry.events import EventBus
from agent.telemetry.metrics import Metrics
from agent.telemetry.probes import Probes
from agent.telemetry.process import Process

if TYPE_CHECKING:
    from agent.api.cloud import Cloud

_log = logging.getLogger(__name__)

#: Libraries that could speak to a vendor or a model hub are told not to, before they are imported.
OFFLINE = {
    "ORT_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_OFFLINE": "1",
}

DRAIN_SHARE = 0.5  # of the stop deadline, for sending what is queued; the rest is for closing

Close = Callable[[], Awaitable[object] | None]


class App:
    """One device's daemon, from the database up to the socket."""

    def __init__(self, config: Config, *, clock: Clock | None = None) -> None:
        self.config = config
        self.clock = clock or SystemClock()
        self.metrics = Metrics()
        self.events = EventBus()
        self.topics = Topics(config.device.topic_prefix, config.device.id)
        self._closers: list[tuple[str, Close]] = []

    async def start(self) -> None:
        """Start every part in order; what had started is closed again when one fails.

        Raises:
            StorageFailed: the state directory cannot be used.
            NotReady: another daemon uses it.
            BadConfig: a setting turned out not to work.
        """
        try:
            await self.start_sync()
            await self._start_pipelines()
            self._start_sources()
            await self._start_api()
        except BaseException:
            await self.stop()
            raise
        _log.info("ready", extra={"version": __version__, "device": self.config.device.id})

    async def start_sync(self) -> None:
        """Start no more than what sends the outbox; raises as `start`."""
        self._lock_state()
        await self._start_store()
        self._start_models()
        self._start_sync()

    async def stop(self) -> None:
        """Close what was started, in reverse. Idempotent."""
        while self._closers:
            name, close = self._closers.pop()
            try:
                result = close()
                if result is not None:
                    await result
            except Exception:  # noqa: BLE001 - whatever it is, the others must close
                _log.exception("a part did not close cleanly", extra={"part": name})

    def _closing(self, name: str, close: Close) -> None:
        self._closers.append((name, close))

    def _lock_state(self) -> None:
        state = self.config.device.state
        try:
            state.mkdir(parents=True, exist_ok=True, mode=0o750)
            lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise StorageFailed(
                f"the state directory cannot be used: {error.strerror}", where=str(state)
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise NotReady("another daemon uses this state directory", where=str(state)) from error
        self._closing("lock", lambda: os.close(lock))

    async def _start_store(self) -> None:
        path, linger_s = self.config.device.database, self.config.outbox.linger_s
        self.database = await asyncio.to_thread(
            Database.open, path, clock=self.clock, linger_s=linger_s
        )
        self._closing("store", self.database.close)
        self.outbox = Outbox(self.database, self.config.outbox)
        await self.outbox.start()

    def _start_models(self) -> None:
        self.registry = Registry(self.config.device.models, clock=self.clock)
        _mend(self.registry)
        used = {spec.model for spec in self.config.pipeline}
        self.models = Models(
            self.registry,
            settings=self.config.serving,
            pinned=used.union(self.config.models.preload),
        )
        gauges.register(self.metrics, self.models)
        self._closing("models", self.models.close)

    def _start_sync(self) -> None:
        self.link: Link | None = None
        self.cloud: Cloud | None = None
        if self.config.sync is None:
            return
        settings = _identified(self.config.sync, self.config.device.id)
        settings = self._certified(settings)
        wire = self._sparkplug(settings.sparkplug_group)
        will = wire.will if wire else Will(self.topics.status)
        self.link = Link(settings, clock=self.clock, metrics=self.metrics, will=will)
        self.uplink = Uplink(
            self.outbox, self.link, clock=self.clock, metrics=self.metrics, wire=wire
        )
        if wire:
            obey(wire, self.link, self.uplink)
        self._closing("link", self.link.close)
        self._closing("uplink", self._close_uplink)
        self._start_cloud(self.link)
        self.link.start()
        self.uplink.start()

    def _certified(self, settings: LinkSettings) -> LinkSettings:
        """The settings with the certificate that the device was enrolled with, kept fresh from here on."""
        folder = IdentityFolder(self.config.device.identity)
        if settings.certificate_file or not folder.enrolled:
            return settings
        enrolment = Enrolment(self.config.enrolment, self.config.device.id, folder)
        renewal = Renewal(enrolment, clock=self.clock, metrics=self.metrics)
        self._closing("renewal", renewal.close)
        renewal.start()
        return dataclasses.replace(
            settings, certificate_file=folder.certificate_file, key_file=folder.key_file
        )

    def _sparkplug(self, group: str) -> SparkplugWire | None:
        return SparkplugWire(NodeName(group, self.topics.device), self.clock) if group else None

    def _start_cloud(self, link: Link) -> None:
        from agent.api.cloud import Cloud, CloudSettings

        config = self.config
        self.cloud = Cloud(
            CloudSettings(
                config.escalation,
                config.policy,
                config.commands,
                config.pipeline,
                config.daemon.log_level,
            ),
            self.database,
            topics=self.topics,
            clock=self.clock,
            events=self.events,
            metrics=self.metrics,
            not_before=self.registry.not_before,
        )
        self.cloud.start(link)
        self._closing("cloud", self.cloud.close)

    async def _close_uplink(self) -> None:
        """Send what is queued, if there is someone to send it to; the rest goes after the start."""
        await self.uplink.drained(DRAIN_SHARE * self.config.daemon.stop_deadline_s)
        await self.uplink.close()

    async def _start_pipelines(self) -> None:
        used = {spec.model for spec in self.config.pipeline}  # those the pipelines load themselves
        for name in self.config.models.preload:
            if name not in used:
                await self._preload(name)
        self.pipelines = Pipelines(
            self.config.pipeline,
            models=self.models,
            database=self.database,
            clock=self.clock,
            metrics=self.metrics,
            events=self.events,
            topics=self.topics,
            make_detector=_make_detector,
            limits=self.config.pipelines,
        )
        await self.pipelines.start()
        self._closing("pipelines", self.pipelines.close)
        following = Following(self.models, self.config.device.models)
        following.start()
        self._closing("following", following.close)

    async def _preload(self, name: str) -> None:
        """A model that cannot be loaded is reported; the daemon starts, so that it can be mended."""
        try:
            await self.models.get(name)
        except AgentError as error:
            _log.warning("cannot load a model: %s", error, extra={"model": name})

    def _start_sources(self) -> None:
        for index, source in enumerate(self.config.source):
            self._start_source(index, source)

    def _start_source(self, index: int, source: SourceSettings) -> None:
        identity = f"{self.config.device.id}-source-{index + 1}"
        link = Link(_identified(source.link, identity), clock=self.clock, metrics=self.metrics)
        mqtt = MqttSource(link, self.pipelines, topics=source.topics, clock=self.clock)
        self._closing("source link", link.close)
        self._closing("source", mqtt.close)
        mqtt.start()
        link.start()

    async def _start_api(self) -> None:
        probes = Probes(self.config.device.state)
        probes.register(self.metrics)
        Process().register(self.metrics)
        service = Service(
            models=self.models,
            pipelines=self.pipelines,
            outbox=self.outbox,
            link=self.link,
            escalations=self.cloud.escalations if self.cloud else None,
            device=self.config.device.id,
            events=self.events,
            metrics=self.metrics,
            probes=probes,
            clock=self.clock,
            max_running=self.config.api.max_running,
        )
        if self.cloud and self.link:
            await self.cloud.obey(service, self.models, self.pipelines, self.link, self.uplink)
        server = ApiServer(self.config.api, service)
        await server.start()
        self._closing("api", lambda: server.close(self.config.daemon.stop_deadline_s / 4))


def serve(config: Config) -> None:
    """Run the daemon until SIGTERM or SIGINT. Called once, by the main thread of a process.

    Raises:
        AgentError: it cannot start, and why.
    """
    logs.configure(config.daemon.log_level, config.daemon.log_format)
    os.environ.update(OFFLINE)
    os.umask(0o027)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(App(config)))


async def _serve(app: App) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_signal, stop)
    await _unless(stop, app.start())
    if not stop.is_set():
        notify("READY=1")
        settle()
        await stop.wait()
    notify("STOPPING=1")
    await _stop_in_time(app)


def _on_signal(stop: asyncio.Event) -> None:
    if stop.is_set():
        _log.warning("stopped at once by a second signal")
        logging.shutdown()
        os._exit(1)  # the store is written so that this loses nothing
    _log.info("stopping")
    stop.set()


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Run `work`, given up when `stop` is set first."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(stop.wait())
    await asyncio.wait((task, waiter), return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _stop_in_time(app: App) -> None:
    deadline_s = app.config.daemon.stop_deadline_s
    try:
        async with asyncio.timeout(deadline_s):
            await app.stop()
        _log.info("stopped")
    except TimeoutError:
        _log.warning("gave up a clean stop after %g s; nothing is lost", deadline_s)
        logging.shutdown()
        os._exit(1)


def _mend(registry: Registry) -> None:
    """Mend what a power cut left of the stored models; nothing here stops the start."""
    try:
        findings = registry.check(repair=True, every_byte=False, wait=False)
    except AgentError as error:
        _log.warning("cannot look through the models: %s", error)
        return
    for finding in findings:
        what = finding.mended or finding.hint
        _log.warning("models: %s: %s; %s", finding.where, finding.problem, what)


def _make_detector(model: LoadedModel, spec: PipelineSpec) -> AnomalyDetector:
    return AnomalyDetector(model, model.manifest, spec.settings)


def _identified(settings: LinkSettings, identity: str) -> LinkSettings:
    """The settings with the device's name where no other client id was chosen."""
    if settings.client_id != LinkSettings().client_id:
        return settings
    return dataclasses.replace(settings, client_id=identity)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # works as well, somewhat slower
        return asyncio.new_event_loop
    return uvloop.new_event_loop
