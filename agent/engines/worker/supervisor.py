"""A worker that is started again when it ends."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from agent.engines.worker.backoff import Backoff
from agent.engines.worker.process import Begun, Job, Reply, WorkerProcess
from agent.engines.worker.stream import Stream
from agent.errors import AgentError, NotReady, WorkerDied
from agent.types import Tensors

_log = logging.getLogger(__name__)

#: A call waits for a start that is due within so long; later than that it fails at once, seconds.
WORTH_WAITING_S = 3.0

#: What the start itself may take meanwhile, on a slow or busy device, seconds.
START_S = 20.0

#: Verifies a package again, and gives the files that a worker needs of it.
Files: TypeAlias = Callable[[], Mapping[str, bytes]]


class Worker:
    """One program, in a process after the other. Safe to call from several threads.

    A call that is under way when its process ends fails with WorkerDied; it is not repeated, since it
    may be what ended the process. The next one waits for the new process.

    Attributes:
        job: what it is for.
        ends: processes that have ended by themselves.
    """

    def __init__(self, job: Job, files: Files) -> None:
        """Start the first process; returns when its program stands. Raises as `WorkerProcess`."""
        self.job = job
        self.ends = 0
        self._files = files
        self._backoff = Backoff()
        self._due = 0.0
        self._changing = threading.Lock()
        self._closing = threading.Event()
        self._standing = threading.Event()
        self._process: WorkerProcess | None = None
        first = self._start()
        self.description = first.description
        threading.Thread(
            target=self._keep, args=(first,), name=f"worker {job.name}"[:60], daemon=True
        ).start()

    @property
    def running(self) -> bool:
        """Whether a process stands."""
        return self._process is not None

    @property
    def memory(self) -> int:
        """What the process that stands has for itself, bytes."""
        process = self._process
        return process.memory() if process else 0

    def call(
        self,
        method: str,
        payload: Any = None,
        tensors: Tensors | None = None,
        *,
        patience_s: float | None = None,
    ) -> Reply:
        """See `WorkerProcess.call`."""
        return self._current().call(method, payload, tensors, patience_s=patience_s)

    def begin(self, method: str, tensors: Tensors, briefly_s: float) -> Begun:
        """See `WorkerProcess.begin`; while there is no process, nothing comes at once."""
        process = self._process
        if process is None or process.useless:
            return partial(self.call, method, None, tensors)
        return process.begin(method, tensors, briefly_s)

    def stream(
        self,
        method: str,
        payload: Any = None,
        tensors: Tensors | None = None,
        *,
        patience_s: float | None = None,
    ) -> Stream:
        """See `WorkerProcess.stream`."""
        return self._current().stream(method, payload, tensors, patience_s=patience_s)

    def close(self) -> None:
        """End the process; it is not started again. Idempotent."""
        self._closing.set()
        process, self._process = self._process, None
        if process is not None:
            process.close()
        self._standing.set()  # whoever waits is told

    def _current(self) -> WorkerProcess:
        process = self._process
        if process is not None and not process.useless:
            return process
        self._drop(process)
        return self._awaited()

    def _awaited(self) -> WorkerProcess:
        """The process that is being started.

        Raises:
            WorkerDied: it will take longer than is worth waiting. NotReady: there will be none.
        """
        pause_s = self._due - time.monotonic()
        if pause_s <= WORTH_WAITING_S:
            self._standing.wait(START_S + max(pause_s, 0.0))
        process = self._process
        if process is not None:
            return process
        if self._closing.is_set():
            raise NotReady("the model is being unloaded", where=self.job.name)
        raise WorkerDied(
            f"the model's process ended {self._backoff.ends} times; it is started again",
            where=self.job.name,
            retry_after_s=max(pause_s, 1.0),
        )

    def _drop(self, process: WorkerProcess | None) -> None:
        """Give no more calls to a process, if it is still the one that gets them."""
        with self._changing:
            if self._process is process and not self._closing.is_set():
                self._standing.clear()
                self._process = None

    def _start(self) -> WorkerProcess:
        process = WorkerProcess(self.job, self._files())
        with self._changing:
            self._process = process
            self._standing.set()
        if self._closing.is_set():
            process.close()
        return process

    def _keep(self, process: WorkerProcess) -> None:
        """Wait for a process to end, and start the next, until closed."""
        standing: WorkerProcess | None = process
        since = time.monotonic()
        while not self._closing.is_set():
            how = standing.wait() if standing else "could not be started"
            if self._closing.is_set():
                return
            self._note(standing, how, time.monotonic() - since)
            if standing:
                standing.kill()
            if self._closing.wait(self._backoff.pause_s):
                return
            since = time.monotonic()
            standing = self._restarted()

    def _note(self, standing: WorkerProcess | None, how: str, lived_s: float) -> None:
        self._drop(standing)
        self.ends += 1
        self._backoff = self._backoff.after(lived_s)
        self._due = time.monotonic() + self._backoff.pause_s
        _log.warning(
            "a model's process %s; the next one starts in %g s",
            how,
            self._backoff.pause_s,
            extra={"model": self.job.name},
        )

    def _restarted(self) -> WorkerProcess | None:
        try:
            return self._start()
        except AgentError as error:
            _log.warning("a model cannot be started again: %s", error)
        except Exception:  # noqa: BLE001 (no reason to give the model up)
            _log.exception("a model cannot be started again", extra={"model": self.job.name})
        return None
