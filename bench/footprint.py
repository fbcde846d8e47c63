"""What the daemon costs before it does anything: time to ready, and memory that is its own.

Memory is proportional (PSS: shared pages divided among those that share them), read from the
kernel's own account, with the daemon idle. Time runs from the fork to the notice that systemd waits
for. Medians over several starts, since the first one fills the page cache.
"""

import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.report import Row, Table
from tests.support.device import ROOT, Device, install_models

PACKAGE = ROOT / "models" / "pump-anomaly"
CROWD = 1_000  # connections
SETTLE_S = 1.0  # seconds between ready and the look at the memory
MIB = 1024  # KiB

PIPELINE = """
[models]
preload = ["pump-anomaly"]
[[pipeline]]
name = "pumps"
model = "pump-anomaly"
streams = ["*"]
"""


@dataclass(frozen=True, slots=True)
class Footprint:
    """One start: seconds to ready, MiB afterwards."""

    ready_s: float
    pss_mib: float


def run(quick: bool) -> Table:
    """Measure the daemon without and with the anomaly model; `quick` with fewer starts."""
    starts = 3 if quick else 9
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        models = install_models(Path(directory) / "models", [PACKAGE])
        bare = [_start(Path(directory) / f"bare-{n}", "", None) for n in range(starts)]
        full = [_start(Path(directory) / f"full-{n}", PIPELINE, models) for n in range(starts)]
        crowded = [_crowd(Path(directory) / f"crowd-{n}") for n in range(1 if quick else 3)]
    return Table(
        "Footprint of the daemon",
        [
            _row("start to ready, no model", "s", [f.ready_s for f in bare], 0.8),
            _row("start to ready, anomaly model", "s", [f.ready_s for f in full], 1.5),
            _row("idle memory (PSS), no engine", "MiB", [f.pss_mib for f in bare], 45),
            _row(
                "memory (PSS), onnxruntime and the anomaly model",
                "MiB",
                [f.pss_mib for f in full],
                110,
            ),
            _row(f"memory (PSS) added by {CROWD:,} idle connections", "MiB", crowded, 20),
        ],
        [f"Medians of {starts} starts; files in the page cache."],
    )


def _crowd(directory: Path) -> float:
    """MiB that idle connections add, each of which has asked once."""
    device = Device(directory)
    directory.mkdir(parents=True)
    device.start()
    ask = b"GET /healthz HTTP/1.1\r\nHost: d\r\n\r\n"
    try:
        with ExitStack() as stack:
            before = pss_mib(device.pid)
            for _ in range(CROWD):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.connect(str(device.socket))
                client.sendall(ask)
                client.recv(4096)
            time.sleep(SETTLE_S)
            return pss_mib(device.pid) - before
    finally:
        device.kill()


def pss_mib(pid: int) -> float:
    """Proportional memory of a process and its threads, MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / MIB


def _row(name: str, unit: str, values: list[float], most: float) -> Row:
    value = statistics.median(values)
    return Row(
        name, value, unit, "promised", most, value / most, f"at most {most:g}", value <= most
    )


def _start(directory: Path, config: str, models: Path | None) -> Footprint:
    device = Device(directory, config)
    directory.mkdir(parents=True)
    if models is not None:
        device.adopt(models)
    with _notices(directory / "notify.sock") as notices:
        device.environment["NOTIFY_SOCKET"] = str(directory / "notify.sock")
        began = time.perf_counter()
        device.start(wait=False)
        try:
            _wait_ready(notices)
            ready_s = time.perf_counter() - began
            time.sleep(SETTLE_S)
            return Footprint(ready_s, pss_mib(device.pid))
        finally:
            device.kill()


@contextmanager
def _notices(path: Path) -> Iterator[socket.socket]:
    """Where the daemon says READY=1, as it does to systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.settimeout(30)
        yield listener


def _wait_ready(notices: socket.socket) -> None:
    while b"READY=1" not in notices.recv(4096):
        pass
