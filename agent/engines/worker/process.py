"""One worker process, from its start to its end."""

import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeAlias

import msgspec

from agent.engines.worker.control import Control
from agent.engines.worker.lane import Ended, Lane, Late, Message, pair
from agent.engines.worker.limits import Limits, delegated, make_group
from agent.engines.worker.memory import sealed
from agent.engines.worker.packets import Packet
from agent.engines.worker.program import Order
from agent.engines.worker.stream import Stream
from agent.errors import (
    AgentError,
    BadPayload,
    EngineFailed,
    NotReady,
    TooMany,
    TooSlow,
    WorkerDied,
    from_dict,
)
from agent.types import Array, Tensors

NOTICE_S = 0.05  # how long to wait for the kernel's word on how a worker ended
CLOSE_S = 1.0  # for a program to clean up after itself

#: Libraries that could speak to a vendor or a model hub are told not to.
_ENVIRONMENT = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

#: What begins so is for the daemon alone; a broker's password may be among it.
_PRIVATE = "EDGE_AGENT_"


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker is for.

    Attributes:
        name: for people: the model's name and version.
        program: ``module:callable`` that makes the `Program`.
        options: for it; whatever MessagePack can say.
        limits: of memory and processors.
        lanes: calls and streams at once; one more waits.
        start_s: until the program stands, seconds.
        patience_s: for one answer, or one piece of a stream; then the worker is ended, seconds.
    """

    name: str
    program: str
    options: Any = None
    limits: Limits = field(default_factory=Limits)
    lanes: int = 4
    start_s: float = 120.0
    patience_s: float = 60.0


class Reply(NamedTuple):
    """An answer: what MessagePack can say, and tensors that belong to the caller."""

    payload: Any
    tensors: dict[str, Array]


#: An answer that came at once, or what waits for it.
Begun: TypeAlias = Reply | Callable[[], Reply]


class WorkerProcess:
    """A child process with a program in it. Safe to call from several threads.

    Attributes:
        description: what the program says of itself.
        pid: of the process.
        useless: it has ended, or is being ended, because a call failed.
    """

    def __init__(self, job: Job, files: Mapping[str, bytes]) -> None:
        """Start it; returns when the program stands.

        Args:
            job: what it is for.
            files: of the package, verified; they are handed over in sealed memory.

        Raises:
            WorkerDied: the process ended before the program stood.
            TooSlow: it took longer than the job allows.
            AgentError: whatever the program raised.
        """
        self._job = job
        self._free: deque[Lane] = deque()
        self._lanes: list[Lane] = []
        self._waiting = 0
        self._changed = threading.Condition()
        self._closed = False
        self.useless = False
        self._group = make_group(job.limits, delegated())
        self._ending = threading.Lock()
        self._process, self._control, self._lifeline = _spawn()
        self.pid = self._process.pid
        try:
            self.description = self._set_up(files)
        except BaseException:
            self.kill()
            raise

    def call(
        self,
        method: str,
        payload: Any = None,
        tensors: Tensors | None = None,
        *,
        patience_s: float | None = None,
    ) -> Reply:
        """Ask for one answer.

        Args:
            method: of the program.
            payload: whatever MessagePack can say.
            tensors: by name; they are copied into shared memory.
            patience_s: other than the job's, seconds.

        Raises:
            WorkerDied: the process has ended.
            TooSlow: no answer came in time; the worker is ended, since a model cannot be interrupted.
            TooMany: every lane was taken for as long.
            AgentError: whatever the program raised.
        """
        patience_s = patience_s or self._job.patience_s
        lane = self._lane(patience_s)
        try:
            lane.send("call", method, payload, tensors)
        except Ended as error:
            self._give_back(lane)
            raise self._failure(error, patience_s) from error
        return self._reply(lane, patience_s)

    def begin(self, method: str, tensors: Tensors, briefly_s: float) -> Begun:
        """Ask for one answer, and wait for it only so long.

        Returns:
            The answer, or what waits for it: to be called once, in a thread; it raises as `call`.
        """
        try:
            lane = self._free.pop()
        except IndexError:
            return partial(self.call, method, None, tensors)
        try:
            lane.send("call", method, None, tensors)
            message = lane.receive(briefly_s)
        except Late:
            return partial(self._reply, lane, self._job.patience_s)
        except (Ended, BadPayload) as error:
            return partial(self._fail, lane, error)
        self._give_back(lane)
        return self._read(message)

    def stream(
        self,
        method: str,
        payload: Any = None,
        tensors: Tensors | None = None,
        *,
        patience_s: float | None = None,
    ) -> Stream:
        """Ask for an answer in pieces, to be iterated over and closed. Raises as `call`."""
        patience_s = patience_s or self._job.patience_s
        lane = self._lane(patience_s)
        try:
            lane.send("stream", method, payload, tensors)
        except Ended as error:
            self._give_back(lane)
            raise self._failure(error, patience_s) from error
        return Stream(
            lane,
            receive=partial(self._piece, lane, patience_s),
            finish=partial(self._give_back, lane),
        )

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def wait(self) -> str:
        """Block until the process has ended; how it did."""
        return _how(self._process.wait())

    def memory(self) -> int:
        """What it has for itself in the machine's memory, bytes; 0 once it has ended."""
        with suppress(OSError, ValueError):
            _, resident, shared, *_ = map(int, Path(f"/proc/{self.pid}/statm").read_text().split())
            return (resident - shared) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def close(self) -> None:
        """End it, after its program has cleaned up. Calls under way fail. Idempotent."""
        self._closed = True
        self._control.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(CLOSE_S)
        self.kill()

    def kill(self) -> None:
        """End it now. Idempotent."""
        self._process.kill()
        self._process.wait()
        self._control.close()
        for lane in list(self._lanes):
            lane.close()
        with self._ending:  # several calls may find it dead at once
            if self._lifeline >= 0:
                os.close(self._lifeline)
                self._lifeline = -1
            if self._group is not None:
                self._group.remove()

    # Setting up

    def _set_up(self, files: Mapping[str, bytes]) -> Any:
        limits = self._job.limits
        if self._group is not None:
            self._group.admit(self.pid)
            limits = Limits(memory_mib=0)
        order = Order(self._job.program, self._job.options, limits)
        try:
            for path, data in files.items():
                self._hand_over(path, data)
            self._control.send("create", msgspec.to_builtins(order))
            packet, _ = self._control.receive(self._job.start_s)
        except (Ended, Late, BadPayload) as error:
            raise self._failure(error, self._job.start_s) from error
        if packet.method != "ready":
            raise self._told(packet)
        return packet.payload

    def _hand_over(self, path: str, data: bytes) -> None:
        descriptor = sealed(data, path)
        try:
            self._control.send("file", path, descriptor)
        finally:
            os.close(descriptor)

    # Lanes

    def _lane(self, patience_s: float) -> Lane:
        try:
            return self._free.pop()
        except IndexError:
            with self._changed:
                return self._open() if self._more else self._awaited(patience_s)

    @property
    def _more(self) -> bool:
        return len(self._lanes) < self._job.lanes

    def _open(self) -> Lane:
        mine, theirs = pair()
        try:
            self._control.send("lane", None, theirs.fileno())
        except Ended as error:
            mine.close()
            raise self._failure(error, 0.0) from error
        finally:
            theirs.close()
        lane = Lane(mine)
        self._lanes.append(lane)
        return lane

    def _awaited(self, patience_s: float) -> Lane:
        """The next lane that somebody gives back."""
        self._waiting += 1
        try:
            if self._changed.wait_for(lambda: self._free, patience_s):
                return self._free.pop()
        finally:
            self._waiting -= 1
        raise TooMany(f"{self._job.lanes} requests are with the model", where=self._job.name)

    def _give_back(self, lane: Lane) -> None:
        self._free.append(lane)
        if self._waiting:  # read after the lane is there: who waits then looks, or is told
            with self._changed:
                self._changed.notify()

    def _reply(self, lane: Lane, patience_s: float) -> Reply:
        try:
            return self._read(lane.receive(patience_s))
        except (Ended, Late, BadPayload) as error:
            raise self._failure(error, patience_s) from error
        finally:
            self._give_back(lane)

    def _read(self, message: Message) -> Reply:
        """An answer, its tensors copied out of shared memory."""
        packet, results = message
        if packet.kind != "result":
            raise self._told(packet)
        return Reply(packet.payload, {name: array.copy() for name, array in results.items()})

    def _fail(self, lane: Lane, error: Exception) -> NoReturn:
        self._give_back(lane)
        raise self._failure(error, self._job.patience_s) from error

    def _piece(self, lane: Lane, patience_s: float) -> Packet:
        """A stream's next piece or its end."""
        try:
            packet, _ = lane.receive(patience_s)
        except (Ended, Late, BadPayload) as error:
            raise self._failure(error, patience_s) from error
        if packet.kind == "error":
            raise self._told(packet)
        return packet

    # What went wrong

    def _failure(self, error: Exception, patience_s: float) -> AgentError:
        """The caller's error for what became of the channel; the worker is useless after that."""
        self.useless = True
        name = self._job.name
        if isinstance(error, Late):
            self.kill()
            return TooSlow(f"the model gave no answer within {patience_s:g} s", where=name)
        if isinstance(error, BadPayload):
            self.kill()
            return WorkerDied(f"the model's process said what is no answer: {error}", where=name)
        if self._closed:
            return NotReady("the model is being unloaded", where=name)
        try:
            how = _how(self._process.wait(NOTICE_S))
        except subprocess.TimeoutExpired:
            self.kill()
            how = "hung up"
        return WorkerDied(f"the model's process {how}", where=name)

    def _told(self, packet: Packet) -> AgentError:
        """The error that the program raised."""
        try:
            return from_dict(packet.payload)
        except (LookupError, TypeError, ValueError):
            return EngineFailed("the model failed and could not say why", where=self._job.name)


def _spawn() -> tuple[subprocess.Popen[bytes], Control, int]:
    """A fresh interpreter, the socket to it, and the end of the pipe that its life hangs on."""
    mine, theirs = pair()
    its_end, lifeline = os.pipe()
    try:
        process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "agent.engines.worker"),
                *(str(theirs.fileno()), str(its_end)),
            ],
            pass_fds=(theirs.fileno(), its_end),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env=_environment(),
        )
    except OSError as error:
        mine.close()
        os.close(lifeline)
        raise EngineFailed(f"no process can be started: {error.strerror}") from error
    finally:
        theirs.close()
        os.close(its_end)
    return process, Control(mine), lifeline


def _environment() -> dict[str, str]:
    kept = {name: text for name, text in os.environ.items() if not name.startswith(_PRIVATE)}
    path = os.pathsep.join(str(Path(part).absolute()) for part in sys.path if part)
    return {**kept, **_ENVIRONMENT, "PYTHONPATH": path}


def _how(status: int) -> str:
    """How a process ended, by its exit status as `subprocess` has it."""
    if status >= 0:
        return f"ended with status {status}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-status).name}"
    return f"was ended by signal {-status}"
