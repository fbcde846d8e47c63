"""Kill a process at a chosen system call, by ptrace: a power cut as far as the process can tell."""

import ctypes
import os
import signal
import traceback
import warnings
from collections.abc import Callable

_TRACE_ME, _TO_NEXT_CALL = 0, 24
_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Untraceable(Exception):
    """This machine does not let a process trace its child."""


def run_until(operation: Callable[[], object], stops: int | None = None) -> tuple[bool, int]:
    """Run `operation` in a forked child and kill it after so many entries to and exits of calls.

    Args:
        operation: runs in the child only; an exception there is printed and ends it.
        stops: None lets it run to its end.

    Returns:
        Whether it came to its end, and how many stops were counted.
    """
    child = _fork(operation)
    _, status = os.waitpid(child, 0)
    if not os.WIFSTOPPED(status):
        raise Untraceable("ptrace is not permitted here")
    count, passed_on = 0, 0
    while count != stops:
        _libc.ptrace(_TO_NEXT_CALL, child, None, passed_on)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            assert os.WIFEXITED(status), f"the operation ended by itself: {status}"
            assert os.WEXITSTATUS(status) == 0, "the operation failed"
            return True, count
        caught = os.WSTOPSIG(status)
        passed_on = 0 if caught == signal.SIGTRAP else caught
        count += 1
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, count


def _fork(operation: Callable[[], object]) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child starts no thread
        child = os.fork()
    if child:
        return child
    status = 1
    try:
        if _libc.ptrace(_TRACE_ME, 0, None, None) == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
            operation()
            status = 0
    except BaseException:  # noqa: BLE001 - nothing of the parent's may run here
        traceback.print_exc()
    finally:
        os._exit(status)
