"""A verified model in memory, and who is inside it."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np

from agent.engines.base import NUMPY_DTYPES, Session
from agent.engines.isolated import IsolatedSession
from agent.errors import NotReady
from agent.trust.manifest import Manifest
from agent.types import Array, ModelRef, Tensors, TensorSpec

TIMED_RUNS = 3  # the fastest of so many is what a run typically takes


class LoadedModel:
    """A verified model in memory. Safe to call from several threads.

    Runs beside each other where the runtime allows it, else one at a time.

    Attributes:
        ref: name and version.
        manifest: what its author promises.
        session: the engine's.
        typical_s: what a run takes, measured at load on a golden input or zeros, seconds.
        used: when it last ran, on the monotonic clock, seconds.
    """

    def __init__(
        self, manifest: Manifest, session: Session, example: Mapping[str, Array] | None = None
    ) -> None:
        """Take a session whose tensors were checked.

        Args:
            manifest: of the package.
            session: becomes the model's own.
            example: inputs to measure with; zeros when there are none.
        """
        self.ref: ModelRef = manifest.ref
        self.manifest = manifest
        self.session = session
        self.used = time.monotonic()
        self._doors = Doors()
        self._turn = threading.Lock()
        self.typical_s = self._measure(example)

    @property
    def isolated(self) -> bool:
        """Whether it runs in a worker process."""
        return isinstance(self.session, IsolatedSession)

    @property
    def memory(self) -> int:
        """Of its worker (PSS), bytes; 0 for a model that runs in the daemon."""
        return self.session.worker.memory if isinstance(self.session, IsolatedSession) else 0

    def run(self, tensors: Tensors) -> dict[str, Array]:
        """One inference. Raises as `Session.run`; NotReady once it is being unloaded."""
        self.used = time.monotonic()
        if not self.session.parallel:
            with self._turn:
                return self.session.run(tensors)
        self._doors.enter()
        try:
            return self.session.run(tensors)
        finally:
            self._doors.leave()

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep it loaded for as long as the context lasts, also when another version takes over.

        Raises:
            NotReady: it is being unloaded already.
        """
        self._doors.enter()
        try:
            yield
        finally:
            self._doors.leave()

    def close(self) -> None:
        """Release its memory once nobody is inside any more. Idempotent."""
        self._doors.shut()
        with self._turn:
            self.session.close()

    def _measure(self, example: Mapping[str, Array] | None) -> float:
        tensors = example or {spec.name: _zeros(spec) for spec in self.session.inputs}
        return min(self._timed(tensors) for _ in range(TIMED_RUNS))

    def _timed(self, tensors: Tensors) -> float:
        start = time.perf_counter()
        self.run(tensors)
        return time.perf_counter() - start


class Doors:
    """Counts who is inside; shutting waits for the last to leave, and then nobody enters any more.

    Until then they stay open: who holds a model runs it, and nobody else finds it by then.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._shut = False
        self._empty = threading.Event()

    def enter(self) -> None:
        """Raises NotReady: it is shut, and empty."""
        with self._lock:
            if self._shut and not self._inside:
                raise NotReady("the model is being unloaded")
            self._inside += 1

    def leave(self) -> None:
        """After each `enter`."""
        with self._lock:
            self._inside -= 1
            if self._shut and not self._inside:
                self._empty.set()

    def shut(self) -> None:
        """Wait until nobody is inside, and let nobody in after that. Idempotent."""
        with self._lock:
            self._shut = True
            if not self._inside:
                self._empty.set()
        self._empty.wait()


def _zeros(spec: TensorSpec) -> Array:
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    fill = b"" if spec.dtype == "BYTES" else 0
    return np.full(shape, fill, dtype=NUMPY_DTYPES[spec.dtype])
