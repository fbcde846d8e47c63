"""A small language model through the socket, beside the bare loop and llama.cpp.

Needs the package that `edge-agent models add smollm2` makes, at $EDGE_AGENT_SMOLLM2; for llama.cpp
the same GGUF file at $EDGE_AGENT_GGUF and a Python with llama-cpp-python at $EDGE_AGENT_LLAMA.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from agent.api.client import Client
from agent.processors import usable
from bench.report import Row, Table
from tests.support.device import Device, device, install_models

TITLE = "A language model: SmolLM2-135M, 4 bits, two threads"
TOKENS = 96  # of an answer
THREADS = str(min(4, usable()))  # of each runtime, as the manifest asks for
STORY = "{}: once upon a time, in a small town by the river, there was a woman who"
SENTENCE = "The pump in the yard hums, the valve is open, and Anna writes the numbers down. "


@dataclass(frozen=True)
class Run:
    """One answer.

    Attributes:
        first_s: to the first token, seconds.
        rest_s: for the others, seconds.
        tokens: in all.
        memory_mib: of the process afterwards (PSS), MiB; 0 when it was not asked for.
    """

    first_s: float
    rest_s: float
    tokens: int
    memory_mib: float = 0.0

    @property
    def rate(self) -> float:
        """Tokens a second after the first one."""
        return (self.tokens - 1) / self.rest_s


Writer = Callable[[str, int], Run]


def run(quick: bool) -> Table:
    """Measure; without a package, say what is missing."""
    place = os.environ.get("EDGE_AGENT_SMOLLM2")
    if not place or not Path(place, "model.toml").exists():
        note = "Not measured: EDGE_AGENT_SMOLLM2 names no package; edge-agent models add smollm2"
        return Table(TITLE, [], [note])
    rounds = 5 if quick else 15
    with ExitStack() as stack:
        served = stack.enter_context(_served(Path(place)))
        bare = stack.enter_context(_bare(sys.executable, "genai", place, THREADS))
        llama = _llama(stack)
        memory = _memory(served, bare)  # before there is more than one conversation to remember
        rows = [
            *_speed(served, bare, llama, rounds),
            _first(served, bare, 2 * rounds),
            _second_turn(served, rounds),
            *_four(served, rounds),
            memory,
        ]
    return Table(
        TITLE, rows, [f"Medians of {rounds} rounds, each of all that is compared in turns."]
    )


class Served:
    """The model behind the socket."""

    def __init__(self, daemon: Device, name: str) -> None:
        self.daemon = daemon
        self.name = name
        self._number = 0
        self._lock = threading.Lock()

    def fresh(self, text: str = STORY) -> str:
        """A prompt that begins as no other did, so that nothing of it is remembered."""
        with self._lock:
            self._number += 1
            return text.format(f"Story {self._number * 7919 % 9973}")

    def write(self, text: str, tokens: int) -> Run:
        """A completion, streamed."""
        return self._timed("/v1/completions", {"prompt": text, "max_tokens": tokens})

    def chat(self, messages: list[dict[str, str]], tokens: int) -> Run:
        """A turn of a conversation, streamed."""
        return self._timed("/v1/chat/completions", {"messages": messages, "max_tokens": tokens})

    def _timed(self, path: str, fields: dict[str, Any]) -> Run:
        body = {"model": self.name, "stream": True, "temperature": 0, **fields}
        body["stream_options"] = {"include_usage": True}
        times, count = [time.perf_counter()], 0
        for event in Client(self.daemon.socket).written(path, body):
            if any(_text(choice) for choice in event["choices"]):
                times.append(time.perf_counter())
            if usage := event.get("usage"):
                count = usage["completion_tokens"]
        return Run(times[1] - times[0], times[-1] - times[1], count)

    def memory_mib(self) -> float:
        """PSS of the worker process."""
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                if parent == self.daemon.pid:
                    return _pss(stat.parent)
            except (OSError, ValueError):
                continue
        return 0.0


def _text(choice: dict[str, Any]) -> str:
    return str(choice.get("text") or choice.get("delta", {}).get("content") or "")


def _pss(process: Path) -> float:
    lines = (process / "smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def _served(package: Path) -> Iterator[Served]:
    with tempfile.TemporaryDirectory(prefix="edge-agent-bench-") as place:
        models = install_models(Path(place) / "m", [package])
        with device(Path(place) / "d", "", models) as daemon:
            daemon.start()
            served = Served(daemon, package.name)
            served.write("Hello", 4)
            yield served


@contextmanager
def _bare(python: str, *arguments: str) -> Iterator[Writer]:
    script = Path(__file__).with_name("_bare_language.py")
    with subprocess.Popen(
        [python, str(script), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def write(text: str, tokens: int) -> Run:
            print(json.dumps({"text": text, "tokens": tokens}), file=process.stdin, flush=True)
            return Run(**json.loads(process.stdout.readline()))

        write("Hello", 4)
        yield write
        process.stdin.close()


def _llama(stack: ExitStack) -> Writer | None:
    python, file = os.environ.get("EDGE_AGENT_LLAMA"), os.environ.get("EDGE_AGENT_GGUF")
    if not python or not file:
        return None
    return stack.enter_context(_bare(python, "llama", file, THREADS))


def _speed(served: Served, bare: Writer, llama: Writer | None, rounds: int) -> list[Row]:
    writers = {"socket": served.write, "bare": bare} | ({"llama": llama} if llama else {})
    rates: dict[str, list[float]] = {name: [] for name in writers}
    for _ in range(rounds):
        text = served.fresh()
        for name, write in writers.items():
            rates[name].append(write(text, TOKENS).rate)
    found = [_rate("tokens/s, one client", rates["socket"], rates["bare"], "bare loop", 0.95)]
    if llama:
        found.append(
            _rate(
                "tokens/s, against another runtime",
                rates["socket"],
                rates["llama"],
                "llama.cpp",
                1.0,
            )
        )
    return found


def _rate(name: str, ours: list[float], theirs: list[float], limit: str, least: float) -> Row:
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    target = f"at least {least:g}"
    return Row(name, median(ours), "/s", limit, median(theirs), ratio, target, ratio >= least)


def _first(served: Served, bare: Writer, rounds: int) -> Row:
    ours, theirs = [], []
    for _ in range(rounds):
        text = served.fresh()
        ours.append(1000 * served.write(text, 4).first_s)
        theirs.append(1000 * bare(text, 4).first_s)
    added = median(a - b for a, b in zip(ours, theirs, strict=True))
    return Row(
        "first token: added by the daemon", added, "ms", "bare loop", median(theirs),
        None, "at most 10 ms", added <= 10,
    )  # fmt: skip


def _second_turn(served: Served, rounds: int) -> Row:
    firsts, seconds = [], []
    for _ in range(max(3, rounds // 3)):
        talk = [{"role": "user", "content": served.fresh("{}. ") + SENTENCE * 55}]
        firsts.append(served.chat(talk, 8).first_s)
        talk += [
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "And what does Anna write down?"},
        ]
        seconds.append(served.chat(talk, 8).first_s)
    share = median(b / a for a, b in zip(firsts, seconds, strict=True))
    return Row(
        "first token: second turn of 1,000 tokens", 1000 * median(seconds), "ms", "first turn",
        1000 * median(firsts), share, "at most 0.20", share <= 0.20,
    )  # fmt: skip


def _four(served: Served, rounds: int) -> list[Row]:
    totals, spreads = [], []
    for _ in range(max(3, rounds // 3)):
        one = _together(served, 1)[1]
        rates, four = _together(served, 4)
        totals.append(four / one)
        spreads.append((max(rates) - min(rates)) / median(rates))
    total, spread = median(totals), median(spreads)
    return [
        Row("four clients: tokens/s together against one", total, "", "", None, total,
            "at least 1.00", total >= 1.0),
        Row("four clients: largest share less smallest", 100 * spread, "% of a share", "", None,
            None, "at most 20 %", spread <= 0.20),
    ]  # fmt: skip


def _together(served: Served, clients: int) -> tuple[list[float], float]:
    """Each client's tokens a second, and of all together from the first request to the last token."""
    runs: list[Run] = []
    start = threading.Barrier(clients + 1)

    def write() -> None:
        text = served.fresh()
        start.wait()
        runs.append(served.write(text, TOKENS))

    threads = [threading.Thread(target=write) for _ in range(clients)]
    for thread in threads:
        thread.start()
    start.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    total = sum(found.tokens for found in runs) / (time.perf_counter() - began)
    return [found.rate for found in runs], total


def _memory(served: Served, bare: Writer) -> Row:
    text = served.fresh()
    theirs = bare(text, TOKENS).memory_mib
    served.write(text, TOKENS)
    ours = served.memory_mib()
    more = ours - theirs
    return Row(
        "memory of the worker", ours, "MiB", "bare loop", theirs, None, "at most 15 MiB more",
        more <= 15,
    )  # fmt: skip
