"""The worker's own side: sets itself up as it is told, then answers, one thread for each lane."""

import fcntl
import os
import select
import signal
import socket
import threading
from contextlib import closing, suppress
from importlib import import_module
from typing import cast

import msgspec

from agent.engines.base import first_line
from agent.engines.worker.control import Control
from agent.engines.worker.files import SealedFiles
from agent.engines.worker.lane import Ended, Lane
from agent.engines.worker.limits import apply
from agent.engines.worker.packets import Packet
from agent.engines.worker.program import Create, Order, Program
from agent.errors import AgentError, EngineFailed
from agent.types import Tensors

_F_SETSIG = 10  # <fcntl.h>


def main(control: int, lifeline: int) -> None:
    """Serve the daemon until it hangs up.

    Args:
        control: descriptor of the socket over which everything else comes.
        lifeline: read end of a pipe whose other end the daemon alone holds.
    """
    _die_with(lifeline)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal: the daemon says when to end
    Child(Control(socket.socket(fileno=control))).serve()
    # Threads may be inside a runtime: there is nothing to save, and nothing to wait for.
    os._exit(0)


class Child:
    """A worker from its first message to its last."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def serve(self) -> None:
        """Take files, make the program, then open lanes; returns when the daemon hangs up."""
        program = self._create()
        if program is None:
            return
        with suppress(Ended):
            while True:
                self._open(program, self._control.receive()[1])
        program.close()

    @staticmethod
    def _open(program: Program, descriptor: int | None) -> None:
        if descriptor is not None:
            lane = Lane(socket.socket(fileno=descriptor))
            threading.Thread(target=answer, args=(lane, program), daemon=True).start()

    def _create(self) -> Program | None:
        """The program; None when it cannot be made, which the daemon has been told."""
        order, files = self._order()
        try:
            program = _made(order, files)
        except Exception as error:  # noqa: BLE001 (whatever it was, the daemon must hear of it)
            self._control.send("failed", explained(error).to_dict())
            return None
        finally:
            files.close()
        self._control.send("ready", program.description)
        return program

    def _order(self) -> tuple[Order, SealedFiles]:
        descriptors: dict[str, int] = {}
        packet, descriptor = self._control.receive()
        while packet.method == "file" and descriptor is not None:
            descriptors[packet.payload] = descriptor
            packet, descriptor = self._control.receive()
        return msgspec.convert(packet.payload, Order), SealedFiles(descriptors)


def answer(lane: Lane, program: Program) -> None:
    """Answer what comes by one lane, until the other side closes it."""
    try:
        while True:
            packet, tensors = lane.receive()
            try:
                _answer(lane, program, packet, tensors)
            except Ended:
                raise
            except Exception as error:  # noqa: BLE001 (the caller must hear of it)
                lane.send("error", payload=explained(error).to_dict())
    except Ended:
        pass
    finally:
        lane.close()


def _answer(lane: Lane, program: Program, packet: Packet, tensors: Tensors) -> None:
    if packet.kind == "call":
        payload, results = program.call(packet.method, packet.payload, tensors)
        lane.send("result", payload=payload, tensors=results)
    elif packet.kind == "stream":  # a cancellation that came too late is no request
        cancelled = Cancelled(lane)
        with closing(program.stream(packet.method, packet.payload, tensors, cancelled)) as pieces:
            for piece in pieces:
                lane.send("piece", payload=piece)
                if cancelled():
                    break
        lane.send("end")


class Cancelled:
    """Whether the stream under way is no longer wanted; once it is not, it stays so."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self._known = False

    def __call__(self) -> bool:
        self._known = self._known or self._lane.cancelled()
        return self._known


def explained(error: Exception) -> AgentError:
    """The error as the caller shall see it."""
    if isinstance(error, AgentError):
        return error
    if isinstance(error, MemoryError):
        return EngineFailed("the model needs more memory than its worker may take")
    return EngineFailed(f"the model failed: {type(error).__name__}: {first_line(error)}")


def _made(order: Order, files: SealedFiles) -> Program:
    apply(order.limits)
    module, _, name = order.program.partition(":")
    create = cast("Create", getattr(import_module(module), name))
    return create(files, order.options)


def _die_with(lifeline: int) -> None:
    """Have the kernel kill this process when the daemon is gone, whatever this process does then.

    A thread that waits for the end of the pipe would need the interpreter, which a model may hold;
    and PR_SET_PDEATHSIG is about the thread that started the process, not about the daemon.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, _F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # gone before that
        os._exit(1)
