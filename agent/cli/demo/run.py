"""Puts a demo together, runs it, and takes it apart again however it ends."""

import asyncio
import contextlib
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from agent.cli.demo.cloud import Network, embedded_broker
from agent.cli.demo.device import Daemon, Home, establish_trust, shipped_model
from agent.cli.demo.recording import Recording, from_csv, simulated
from agent.cli.demo.scenario import Demo, Pace, fitting_speed
from agent.cli.demo.scene import Scene
from agent.cli.demo.stage import Silence, Stage, stage
from agent.cli.demo.summary import Summary, lines, summarize, to_dict
from agent.cli.options import as_typed, emit_json
from agent.errors import BadRequest
from agent.pipelines.spec import PipelineSpec
from agent.pipelines.tables import Choices
from agent.sync.settings import BrokerAddress, LinkSettings
from tools.fleet.receiver import Receiver

LABEL = 10  # characters of a label in the summary
PLAY_S = 56.0  # a recording is played in about so long, seconds
EMBEDDED_PROTOCOL = "3.1.1"  # what the embedded broker speaks
LEAVING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SUMMARIES = 120  # telemetry messages over a recording


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked for; see `edge-agent demo --help`."""

    recording: Path | None = None
    time_column: str = ""
    label_columns: tuple[str, ...] = ()
    home: Path | None = None
    broker: str | None = None
    speed: float | None = None
    seed: int = 1
    terminal: bool = False
    as_json: bool = False
    picture: Path | None = None


def run(options: Options) -> int:
    """Run the demo and print its summary; returns the exit status."""
    recording = _recording(options)
    with _home(options.home) as home:
        summary = asyncio.run(_run(options, recording, home))
        _print(summary, options)
    return summary.exit_status


def _recording(options: Options) -> Recording:
    if options.recording is None:
        return simulated(options.seed)
    return from_csv(
        options.recording, Choices(time=options.time_column, labels=options.label_columns)
    )


@contextlib.contextmanager
def _home(path: Path | None) -> Iterator[Home]:
    """The device's directory: the user's own, kept, or one that goes with the demo."""
    if path is not None:
        home = Home(path.absolute())
        home.claim()
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as scratch:
        yield Home(Path(scratch))


async def _run(options: Options, recording: Recording, home: Home) -> Summary:
    """Build everything around the demo, run it, and take it apart in reverse."""
    scene = _scene(recording)
    async with contextlib.AsyncExitStack() as stack:
        stopping = stack.enter_context(_leaving_early())
        shown = stack.enter_context(_stage(options))
        step = _Steps(scene, shown)
        broker = await stack.enter_async_context(_broker(options.broker))
        network = await stack.enter_async_context(_network(broker))
        step("A device is made: a trust root of its own, a signed model, verified and installed.")
        _configure(home, options, recording, network)
        trusted = await asyncio.to_thread(establish_trust, home, shipped_model())
        scene.model, scene.signers = trusted.model, trusted.signers
        step("The cloud listens, and the daemon starts.")
        receiver = await stack.enter_async_context(_receiver(broker, home))
        daemon = await stack.enter_async_context(_daemon(home))
        speed = options.speed or fitting_speed(recording.duration_s, PLAY_S)
        demo = Demo(
            recording, Pace(speed), home=home, daemon=daemon, network=network, receiver=receiver,
            scene=scene, stage=shown, stopping=stopping,
        )  # fmt: skip
        ledger = await demo.run()
    _leave_behind(home, options, recording)
    return summarize(scene, ledger, interrupted=stopping.is_set())


def _scene(recording: Recording) -> Scene:
    rows = recording.rows
    scene = Scene(rows.stream, rows=len(rows), spans=recording.spans)
    scene.first, scene.last = float(rows.time[0]), float(rows.time[-1])
    return scene


def _configure(home: Home, options: Options, recording: Recording, network: Network) -> None:
    """For the demo: the broker through the network that can be cut, and enough summaries."""
    home.write_config(
        f"mqtt://127.0.0.1:{network.port}",
        recording.rows.stream,
        max(recording.duration_s / SUMMARIES, 1.0),
        protocol="auto" if options.broker else EMBEDDED_PROTOCOL,
    )


def _leave_behind(home: Home, options: Options, recording: Recording) -> None:
    """For whoever keeps the device: the broker where it really is."""
    broker = options.broker or LinkSettings().brokers[0]
    home.write_config(broker, recording.rows.stream, PipelineSpec("demo", "demo").summary_every_s)


@contextlib.asynccontextmanager
async def _network(broker: BrokerAddress) -> AsyncIterator[Network]:
    network = Network(broker.host, broker.port)
    await network.mend()
    try:
        yield network
    finally:
        await network.cut()


@contextlib.asynccontextmanager
async def _receiver(broker: BrokerAddress, home: Home) -> AsyncIterator[Receiver]:
    receiver = Receiver(f"mqtt://{broker}", f"{home.topics}/+/#", client_id=f"{home.device}-cloud")
    await asyncio.to_thread(receiver.start)
    try:
        yield receiver
    finally:
        await asyncio.to_thread(receiver.close)


@contextlib.asynccontextmanager
async def _daemon(home: Home) -> AsyncIterator[Daemon]:
    daemon = Daemon(home)
    try:
        await daemon.start()
        yield daemon
    finally:
        await daemon.stop()


class _Steps:
    """Says what is being set up."""

    def __init__(self, scene: Scene, shown: Stage) -> None:
        self._scene = scene
        self._shown = shown

    def __call__(self, text: str) -> None:
        self._scene.narration = text
        self._shown.show(self._scene)


def _stage(options: Options) -> contextlib.AbstractContextManager[Stage]:
    if options.as_json and options.picture is None:
        return contextlib.nullcontext(Silence())
    return stage(terminal=options.terminal, write=click.echo, picture=options.picture)


@contextlib.asynccontextmanager
async def _broker(url: str | None) -> AsyncIterator[BrokerAddress]:
    """The user's broker, or an embedded one for as long as the demo runs."""
    if url is None:
        async with embedded_broker() as (host, port):
            yield BrokerAddress(host, port)
        return
    address = BrokerAddress.parse(url)
    if address.tls or address.path:
        raise BadRequest(
            "the demo reaches a broker by plain MQTT only",
            where=url,
            hint="A daemon of your own takes mqtts:// and wss:// in its configuration.",
        )
    yield address


@contextlib.contextmanager
def _leaving_early() -> Iterator[asyncio.Event]:
    """Set by the first Ctrl-C, or when the terminal goes away: the demo then ends in order.

    A second Ctrl-C ends it at once.
    """
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()

    def leave() -> None:
        stopping.set()
        loop.remove_signal_handler(signal.SIGINT)

    for number in LEAVING:
        loop.add_signal_handler(number, leave)
    try:
        yield stopping
    finally:
        for number in LEAVING:
            loop.remove_signal_handler(number)


def _print(summary: Summary, options: Options) -> None:
    if options.as_json:
        emit_json(to_dict(summary))
        return
    click.echo()
    for line in lines(summary):
        click.echo(click.style(line[:LABEL], bold=True) + line[LABEL:])
    click.echo()
    for line in _next_steps(options, as_typed(sys.argv[0])):
        click.echo(line)


def _next_steps(options: Options, command: str) -> Iterator[str]:
    """Where to go from here, by lines that this user can type."""
    if options.home is not None:
        yield f"The device is kept: {command} run --config {options.home}/edge-agent.toml"
    else:
        yield f"Keep the device next time:   {command} demo --home DIRECTORY"
    if options.recording is None:
        yield f"Try a recording of your own: {command} demo --recording FILE.csv"
    yield f"Set up a device for good:    {command} init DIRECTORY"
