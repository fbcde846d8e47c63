"""Time and memory of models: each in a process of its own, on one thread, taking turns.

Turns, because a machine's speed wanders: what is compared is measured within the same seconds. The
child is this module run as a program; it speaks JSON lines over its standard input and output.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from agent.errors import EngineFailed
from tools.quantize.family import Artifact, Probe, Progress
from tools.quantize.report import Figures

ROUNDS = 21  # turns of each model; the first is not counted
ROUND_S = 0.05  # aimed length of a turn, seconds
LEAST_RUNS = 3  # in a turn
MOST_RUNS = 2000  # in a turn


def measure(
    models: Mapping[str, tuple[Artifact, Probe, int]], progress: Progress, *, rounds: int = ROUNDS
) -> dict[str, Figures]:
    """Time several models in turns.

    Args:
        models: by name; the artifact, how it is timed, and its number of weights.
        progress: told after each turn.
        rounds: turns of each model.

    Raises:
        EngineFailed: a model cannot be loaded or run.
    """
    with ExitStack() as stack:
        started = {
            name: stack.enter_context(_Child(name, artifact, probe))
            for name, (artifact, probe, _) in models.items()
        }
        times: dict[str, list[float]] = {name: [] for name in models}
        for number in range(rounds):
            progress("Timing", number / rounds)
            for name, child in started.items():
                measured = child.turn()
                if number or rounds == 1:
                    times[name] += measured
        return {
            name: _figures(artifact, weights, times[name], started[name].peak())
            for name, (artifact, _, weights) in models.items()
        }


def _figures(artifact: Artifact, weights: int, times: Sequence[float], peak: int) -> Figures:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return Figures(
        artifact.size, weights, 1e3 * ordered[len(ordered) // 2], 1e3 * p99, peak, len(ordered)
    )


class _Child:
    """The other end of the program below."""

    def __init__(self, name: str, artifact: Artifact, probe: Probe) -> None:
        self._name = name
        self._order = {
            "artifact": {**asdict(artifact), "directory": str(artifact.directory)},
            "probe": asdict(probe),
        }

    def __enter__(self) -> Self:
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        one_thread = dict.fromkeys(
            ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"
        )
        self._said = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tools.quantize.measure"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **one_thread, "PYTHONPATH": path, "ORT_DISABLE_TELEMETRY": "1"},
            text=True,
        )
        try:
            once = self._ask(self._order)["seconds"]
        except BaseException:
            self.__exit__()
            raise
        self._runs = max(LEAST_RUNS, min(MOST_RUNS, int(ROUND_S / max(once, 1e-6))))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._said.close()

    def turn(self) -> list[float]:
        """Seconds of each run of one turn."""
        times: list[float] = self._ask({"runs": self._runs})["times"]
        return times

    def peak(self) -> int:
        """Most memory so far above the process without the model, bytes."""
        return int(self._ask({"peak": True})["bytes"])

    def _ask(self, order: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": self._end()}
        if "error" in answer:
            raise EngineFailed(f"cannot be timed: {answer['error']}", where=self._name)
        return answer

    def _end(self) -> str:
        status = self._process.wait()
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").strip().splitlines()[-1:]
        end = f"ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return ": ".join([f"its process {end}", *last])


# The program in the child


@dataclass(slots=True)
class _Timed:
    """A loaded model in the child."""

    work: Callable[[], object]
    before: int  # resident bytes without the model

    @classmethod
    def load(cls, order: Mapping[str, Any]) -> "_Timed":
        described = dict(order["artifact"])
        artifact = Artifact(**{**described, "directory": Path(described["directory"])})
        module, _, name = order["probe"]["target"].partition(":")
        probe = getattr(importlib.import_module(module), name)
        prepare = getattr(importlib.import_module(module), "prepare", None)
        if prepare is not None:
            prepare(artifact)
        gc.collect()
        _forget_peak()
        before = _status("VmRSS")
        return cls(probe(artifact, **order["probe"]["arguments"]), before)

    def answer(self, order: Mapping[str, Any]) -> dict[str, Any]:
        if "peak" in order:
            return {"bytes": max(0, _status("VmHWM") - self.before)}
        return {"times": [self.seconds() for _ in range(order["runs"])]}

    def seconds(self) -> float:
        begun = time.perf_counter()
        self.work()
        return time.perf_counter() - begun


def _forget_peak() -> None:
    """Let the kernel count the process's peak from now on; see proc(5), clear_refs."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _program() -> None:
    """Load what the first line names, then answer each further line."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print; the answers must stay alone
    timed: _Timed | None = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if timed is None:
                timed = _Timed.load(order)
                answer: dict[str, Any] = {"seconds": min(timed.seconds() for _ in range(3))}
            else:
                answer = timed.answer(order)
        except Exception as error:  # noqa: BLE001 - whatever it was, the parent says it
            answer = {"error": f"{type(error).__name__}: {error}"}
        say.write(json.dumps(answer) + "\n")
        say.flush()


if __name__ == "__main__":
    _program()
