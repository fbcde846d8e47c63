"""What a polite client notices of a hostile one: its p50 beside each attack, and beside none.

The attacker is a process of another user where root runs this, else of the same one, whom the
bounds of a caller then do not hold. It takes a core of the machine as well as the daemon's time; what
that alone costs is the limit: the same client beside a process that only computes.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from bench.frames import ask as frame_request
from bench.frames import post
from bench.inference import connect, exchange, timed
from bench.report import Row, Table

ATTACKER = 60_001  # a user that nothing else runs as
MOST = 2.0  # times what the machine itself makes of a busy neighbour
SETTLE_S = 0.3  # until an attack is under way, seconds
QUANTILES = (0.5, 0.99)
SHAPE = (8, 8, 3)

POLITE = frame_request({"binary_data_size": 192}, SHAPE, bytes(192))


def run(quick: bool) -> Table:
    """Measure beside each attack; `quick` for a shorter time."""
    rounds, seconds = (2, 0.5) if quick else (6, 1.5)
    with tempfile.TemporaryDirectory(prefix="bench-hostile-") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "agent.sock"
        command = f"from bench.frames import serve; serve({str(path)!r}, mode='0666')"
        server = subprocess.Popen([sys.executable, "-c", command])
        try:
            times = _measure(path, rounds, seconds)
        finally:
            server.terminate()
            server.wait()
    rows = [_row("nobody", times["nobody"], q) for q in QUANTILES]
    for name, taken in times.items():
        if name not in {"nobody", "computes"}:
            rows += [_row(name, taken, q, times["computes"]) for q in QUANTILES]
    who = "another user" if os.geteuid() == 0 else "the same user, who has no bounds of its own"
    note = f"{rounds} alternating rounds of {seconds:g} s; the attacker is {who}."
    return Table("A hostile neighbour", rows, [note])


def _row(name: str, taken: list[float], q: float, beside: list[float] | None = None) -> Row:
    """A quantile beside what a neighbour that only computes makes of it."""
    value = 1e6 * float(np.quantile(taken, q))
    what = f"{'nobody else' if name == 'nobody' else 'one that ' + name}: p{100 * q:.0f}"
    if beside is None:
        return Row(what, value, "µs")
    limit = 1e6 * float(np.quantile(beside, q))
    promised = q == 0.5
    return Row(
        what,
        value,
        "µs",
        "one that only computes",
        limit,
        value / limit,
        f"≤ {MOST:g}" if promised else "",
        value <= MOST * limit if promised else None,
    )


def _measure(path: Path, rounds: int, seconds: float) -> dict[str, list[float]]:
    client = connect(path)
    times: dict[str, list[float]] = {name: [] for name in ("nobody", *ATTACKS)}
    for _ in range(rounds):
        for name, taken in times.items():
            with _attacked(name, path):
                until = time.monotonic() + seconds
                while time.monotonic() < until:
                    taken.append(timed(lambda: exchange(client, POLITE)))
    return times


@contextlib.contextmanager
def _attacked(name: str, path: Path) -> Iterator[None]:
    """An attacker at work meanwhile."""
    if name not in ATTACKS:
        yield
        return
    command = f"from bench.hostile import attack; attack({name!r}, {str(path)!r})"
    process = subprocess.Popen([sys.executable, "-c", command])
    try:
        time.sleep(SETTLE_S)
        if process.poll() is not None:
            raise RuntimeError(f"the attack ended: {name}")
        yield
    finally:
        process.kill()
        process.wait()
        time.sleep(SETTLE_S)


# The attacker's side


def attack(name: str, path: str) -> None:
    """Do it until killed."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(ATTACKER)
        os.setuid(ATTACKER)
    while True:
        with contextlib.suppress(OSError):
            ATTACKS[name](Path(path))


def _open(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path))
    return client


def _compute(_: Path) -> None:
    while True:
        sum(range(1000))


def _ask_without_end(path: Path) -> None:
    """As many requests as sixteen connections take, whatever is answered."""
    clients = [_open(path) for _ in range(16)]
    while True:
        for client in clients:
            client.sendall(POLITE * 8)
        for client in clients:
            client.recv(1 << 20)


def _connect_without_end(path: Path) -> None:
    while True:
        _open(path).close()


def _never_read(path: Path) -> None:
    """Requests for the page on many connections, no answer taken."""
    clients = [_open(path) for _ in range(64)]
    for client in clients:
        client.setblocking(False)
    page = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 10
    while True:
        for client in clients:
            with contextlib.suppress(BlockingIOError):
                client.send(page)


def _never_finish(path: Path) -> None:
    """As many connections as it gets, and on each a head that grows by a byte now and then."""
    clients = [_open(path) for _ in range(500)]
    for client in clients:
        client.send(b"GET / HTTP/1.1\r\nX: ")
    while True:
        for client in clients:
            client.send(b"x")
            time.sleep(0.0005)


def _large_bodies(path: Path) -> None:
    """Bodies as large as are allowed, cut short at the end."""
    request = post("/v2/models/look/infer", bytes(60 << 20))
    while True:
        with _open(path) as client:
            client.sendall(request[:-1])


ATTACKS: Mapping[str, Callable[[Path], None]] = {
    "computes": _compute,
    "asks without end": _ask_without_end,
    "connects without end": _connect_without_end,
    "never reads": _never_read,
    "never finishes": _never_finish,
    "sends large bodies": _large_bodies,
}
