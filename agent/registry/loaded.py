"""A verified model in memory, and who is inside it."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from agent.engines.base import Session
from agent.engines.isolated import Begun, IsolatedSession
from agent.errors import NotReady
from agent.registry.measuring import batch_gain, typical_seconds, zeros
from agent.trust.manifest import Manifest
from agent.types import Array, ModelRef, Tensors


class LoadedModel:
    """A verified model in memory. Safe to call from several threads.

    Runs beside each other where the runtime allows it, else one at a time.

    Attributes:
        ref: name and version.
        manifest: what its author promises.
        session: the engine's.
        typical_s: what a run takes, measured at load on a golden input or zeros, seconds.
        batch_gain: how many times more requests it answers per second in batches; 0 for not at all.
        companions: verified files that its task needs beside the session, such as a tokenizer.
        used: when it last ran, on the monotonic clock, seconds.
    """

    def __init__(
        self,
        manifest: Manifest,
        session: Session,
        example: Mapping[str, Array] | None = None,
        companions: Mapping[str, bytes] | None = None,
    ) -> None:
        """Take a session whose tensors were checked.

        Args:
            manifest: of the package.
            session: becomes the model's own.
            example: inputs to measure with; zeros when there are none.
            companions: become the model's own.
        """
        self.ref: ModelRef = manifest.ref
        self.manifest = manifest
        self.session = session
        self.companions = companions or {}
        self.used = time.monotonic()
        self._doors = Doors()
        self._turn = threading.Lock()
        inputs = example or {spec.name: zeros(spec) for spec in session.inputs}
        self.typical_s = typical_seconds(self.run, inputs)
        self.batch_gain = batch_gain(
            self.run, example if _batchable(session) else None, self.typical_s
        )

    @property
    def isolated(self) -> bool:
        """Whether it runs in a worker process."""
        return isinstance(self.session, IsolatedSession)

    @property
    def memory(self) -> int:
        """What its worker has for itself, bytes; 0 for a model that runs in the daemon."""
        return self.session.worker.memory if isinstance(self.session, IsolatedSession) else 0

    @property
    def ends(self) -> int:
        """Times that its worker's process ended by itself."""
        return self.session.worker.ends if isinstance(self.session, IsolatedSession) else 0

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

    def begin(self, tensors: Tensors, briefly_s: float) -> Begun:
        """One inference that keeps its caller no longer than a short model does.

        A model in the daemon runs to its end. One in a worker may hang: it is waited for only so
        long, seconds, and the rest is for a thread.

        Returns:
            The outputs, or what waits for them: to be called once, in a thread. Raises as `run`.
        """
        session = self.session
        if not isinstance(session, IsolatedSession):
            return self.run(tensors)
        self.used = time.monotonic()
        self._doors.enter()
        try:
            begun = session.begin(tensors, briefly_s)
        except BaseException:
            self._doors.leave()
            raise
        if not isinstance(begun, dict):
            return partial(self._finished, begun)
        self._doors.leave()
        return begun

    def _finished(self, wait: Callable[[], dict[str, Array]]) -> dict[str, Array]:
        try:
            return wait()
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


def _batchable(session: Session) -> bool:
    """Whether the first size of everything is free, as that of a batch is."""
    specs = (*session.inputs, *session.outputs)
    return all(spec.shape[:1] == (-1,) and spec.dtype != "BYTES" for spec in specs)
