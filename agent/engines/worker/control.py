"""The socket over which a worker is set up: files, then the program, then lanes."""

import os
import socket
from typing import Any

from agent.engines.worker.lane import ONE_DESCRIPTOR, Ended, Late, descriptors
from agent.engines.worker.memory import mapped_once, sealed
from agent.engines.worker.packets import MAX_PACKET, Packet, decode, encode, spilled, unspill
from agent.errors import BadPayload


class Control:
    """One end. Used by one thread at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection

    def send(self, method: str, payload: Any = None, descriptor: int | None = None) -> None:
        """Say something, and pass a descriptor with it.

        What is too large for a packet goes in sealed memory, and then no descriptor can go with it.

        Raises:
            Ended: nobody is there to take it.
        """
        data = encode(Packet("call", method, payload))
        if len(data) <= MAX_PACKET:
            self._send(data, [] if descriptor is None else [descriptor])
            return
        memory = sealed(data, method)
        try:
            self._send(encode(spilled(0, len(data))), [memory])
        finally:
            os.close(memory)

    def receive(self, patience_s: float | None = None) -> tuple[Packet, int | None]:
        """The next thing that is said; the descriptor is the caller's to close.

        Raises:
            Ended: the other side is gone.
            Late: nothing came in time.
            BadPayload: what came is no message.
        """
        self._socket.settimeout(patience_s)
        try:
            data, ancillary, _, _ = self._socket.recvmsg(MAX_PACKET, ONE_DESCRIPTOR)
        except TimeoutError as error:
            raise Late from error
        except OSError as error:
            raise Ended from error
        found = descriptors(ancillary)
        try:
            if not data:
                raise Ended
            if len(found) > 1:
                raise BadPayload(f"{len(found)} descriptors were passed instead of one")
            packet = decode(data)
            if packet.kind == "spilled":
                return unspill(packet, mapped_once([found.pop()] if found else [])), None
            return packet, found.pop() if found else None
        finally:
            for number in found:
                os.close(number)

    def _send(self, data: bytes, passed: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [data], passed)
        except OSError as error:
            raise Ended from error

    def close(self) -> None:
        """Hang up. Idempotent."""
        self._socket.close()
