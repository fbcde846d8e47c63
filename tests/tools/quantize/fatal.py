"""Probes that misbehave."""

import os
import signal
from collections.abc import Callable

from tools.quantize.family import Artifact


def probe(_artifact: Artifact) -> Callable[[], object]:
    """Die while running, as the kernel's killer would end it."""
    return lambda: os.kill(os.getpid(), signal.SIGKILL)


def talkative(_artifact: Artifact) -> Callable[[], object]:
    """Print on standard output, as libraries do."""
    return lambda: print("progress: 50 %", flush=True)
