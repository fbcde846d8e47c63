"""A lane: one socket on which one call or one stream at a time travels, and its shared memory.

Both ends are the same. Each side has an arena that it alone writes to; it is replaced by a larger one
when a message does not fit, and the new one's descriptor goes with that message. Several calls at
once take several lanes, so that nobody waits for another's answer and nothing has to be sorted.
"""

import contextlib
import math
import os
import socket
import struct
from collections.abc import Iterable
from typing import Any, TypeAlias

import numpy as np
from msgspec.structs import replace

from agent.engines.worker import memory
from agent.engines.worker.packets import (
    MAX_PACKET,
    Kind,
    Packet,
    decode,
    describe,
    encode,
    offsets,
    place,
    spilled,
    unspill,
)
from agent.errors import BadPayload
from agent.types import Array, Tensors

ONE_DESCRIPTOR = socket.CMSG_SPACE(struct.calcsize("i"))
_CANCEL = encode(Packet("cancel"))

#: A packet and its tensors.
Message: TypeAlias = tuple[Packet, dict[str, Array]]

_NOTHING: tuple[bytes, Message] = (b"", (Packet("end"), {}))


class Ended(Exception):
    """The other side is gone."""


class Late(Exception):
    """Nothing came in time."""


class Lane:
    """One end. Used by one thread at a time, but for `cancel` and `close`."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._patience_s: float | None = None
        self._mine = memoryview(b"")
        self._theirs = memoryview(b"")
        # What was sent last, and where its tensors lie.
        self._form: tuple[Any, ...] = ()
        self._data = b""
        self._views: list[Array] = []
        # What came last, if it can be known again by its bytes.
        self._known = _NOTHING

    def send(
        self, kind: Kind, method: str = "", payload: Any = None, tensors: Tensors | None = None
    ) -> None:
        """Send a message.

        Raises:
            Ended: nobody is there to take it.
        """
        if payload is None and tensors:
            self._send_like_the_last(kind, method, tensors)
        else:
            self._send(Packet(kind, method, payload), tensors or {})

    def cancel(self) -> None:
        """Ask for the stream under way to end; from any thread."""
        with contextlib.suppress(OSError):  # it has ended, and with it the stream
            self._socket.send(_CANCEL)

    def receive(self, patience_s: float | None = None) -> Message:
        """The next message and its tensors, which are views of shared memory until the next `send`.

        Args:
            patience_s: how long to wait, seconds; None for ever.

        Raises:
            Ended: the other side is gone.
            Late: nothing came in time.
            BadPayload: what came is no message.
        """
        if patience_s != self._patience_s:
            self._set_patience(patience_s)
        data = self._take()
        if data == self._known[0]:
            return self._known[1]
        packet = self._decoded(data)
        places, _ = offsets(packet.tensors)
        tensors = {
            shape.name: place(shape, self._theirs, at)
            for shape, at in zip(packet.tensors, places, strict=True)
        }
        # Without a payload and without strings, equal bytes mean the same views again.
        plain = packet.payload is None and all(a.dtype != object for a in tensors.values())
        self._known = (data if plain else b"", (packet, tensors))
        return packet, tensors

    def cancelled(self) -> bool:
        """Whether the other side no longer wants the stream under way, or is gone."""
        try:
            return self._decoded(self._take(socket.MSG_DONTWAIT)).kind == "cancel"
        except Late:
            return False
        except Ended:
            return True

    def close(self) -> None:
        """Hang up; a thread that waits in `receive` is told. Idempotent."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _send_like_the_last(self, kind: Kind, method: str, tensors: Tensors) -> None:
        """Most messages differ from the one before in their elements only: those are replaced."""
        form = (kind, method, *((name, a.dtype, a.shape) for name, a in tensors.items()))
        if form == self._form:
            _fill(self._views, tensors.values())
            self._post(self._data, None)
            return
        self._data, self._views = self._send(Packet(kind, method), tensors)
        strings = any(array.dtype == object for array in tensors.values())
        self._form = () if strings else form

    def _send(self, packet: Packet, tensors: Tensors) -> tuple[bytes, list[Array]]:
        """Lay a message out and send it; what was sent, and where its tensors lie."""
        described = [describe(name, array) for name, array in tensors.items()]
        packet = replace(packet, tensors=tuple(shape for shape, _ in described))
        places, end = offsets(packet.tensors)
        data = encode(packet)
        spills = len(data) > MAX_PACKET
        descriptor = self._room(end + len(data) if spills else end)
        views = [
            np.ndarray(array.shape, array.dtype, self._mine, at)
            for at, (_, array) in zip(places, described, strict=True)
        ]
        _fill(views, (array for _, array in described))
        if spills:
            self._mine[end : end + len(data)] = data
            data = encode(spilled(end, len(data)))
        self._post(data, descriptor)
        return data, views

    def _room(self, size: int) -> int | None:
        """Make the arena large enough; the descriptor of a new one, to be passed."""
        if len(self._mine) >= size:
            return None
        descriptor, self._mine = memory.arena(size)
        self._form = ()
        return descriptor

    def _post(self, data: bytes, descriptor: int | None) -> None:
        try:
            if descriptor is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [descriptor])
        except OSError as error:
            raise Ended from error
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _take(self, flags: int = 0) -> bytes:
        try:
            data, ancillary, found, _ = self._socket.recvmsg(MAX_PACKET, ONE_DESCRIPTOR, flags)
        except BlockingIOError as error:
            raise Late from error
        except OSError as error:
            raise Ended from error
        if ancillary:
            self._theirs = memory.mapped_once(descriptors(ancillary))
            self._known = _NOTHING
        if not data:
            raise Ended
        if found & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise BadPayload("a packet is too large")
        return data

    def _decoded(self, data: bytes) -> Packet:
        packet = decode(data)
        return unspill(packet, self._theirs) if packet.kind == "spilled" else packet

    def _set_patience(self, patience_s: float | None) -> None:
        """The kernel keeps the time, so that waiting costs no call of its own."""
        value = struct.pack("ll", *divmod(math.ceil((patience_s or 0.0) * 1e6), 1_000_000))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._patience_s = patience_s


def _fill(views: Iterable[Array], arrays: Iterable[Array]) -> None:
    for view, array in zip(views, arrays, strict=True):
        view[...] = array


def pair() -> tuple[socket.socket, socket.socket]:
    """Both ends of a new connection of packets."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """Every descriptor that came with a packet."""
    return [
        number
        for level, kind, data in ancillary
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        for (number,) in struct.iter_unpack("i", data[: len(data) // 4 * 4])
    ]
