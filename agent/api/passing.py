"""Takes descriptors of anonymous shared memory, which HTTP has no way to carry.

A second socket beside the first one, of packets: each packet is one JSON object with the name of a
region and its size, and carries one descriptor; each is answered by one JSON object, empty or an
error. The regions of a connection are forgotten when it ends, so that a client that dies leaves
nothing behind.
"""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Annotated

import msgspec

from agent.api.callers import Caller, Role
from agent.api.regions import Regions
from agent.errors import AgentError, BadPayload, Forbidden

MAX_PACKET = 1024  # bytes
MAX_CONNECTIONS = 64
MAX_DESCRIPTORS = 8  # taken from one packet, to be closed; only one is wanted

_encode = msgspec.json.Encoder().encode


class Passed(msgspec.Struct):
    """What a packet says of its descriptor."""

    region: str
    byte_size: Annotated[int, msgspec.Meta(ge=1, lt=1 << 48)]


class Passing:
    """Serves the socket of descriptors."""

    def __init__(self, regions: Regions, caller_of: Callable[[socket.socket], Caller]) -> None:
        self._regions = regions
        self._caller_of = caller_of
        self._peers: dict[socket.socket, tuple[Caller, list[str]]] = {}

    def start(self, listener: socket.socket) -> None:
        """Listen on a socket of packets that is bound already."""
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Hang up on everybody. Called once, after `start`."""
        self._loop.remove_reader(self._listener)
        self._listener.close()
        for peer in list(self._peers):
            self._forget(peer)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            peer, _ = self._listener.accept()
            caller = self._caller_of(peer)
            if len(self._peers) >= MAX_CONNECTIONS or caller.role < Role.APP:
                peer.close()
                return
            peer.setblocking(False)
            self._peers[peer] = (caller, [])
            self._loop.add_reader(peer, self._take, peer)

    def _take(self, peer: socket.socket) -> None:
        try:
            data, descriptors, flags, _ = socket.recv_fds(peer, MAX_PACKET, MAX_DESCRIPTORS)
        except BlockingIOError:
            return
        except OSError:
            data, descriptors, flags = b"", [], 0
        if not data:
            _close(descriptors)
            self._forget(peer)
            return
        try:
            self._adopt(peer, data, descriptors, flags)
            answer = b"{}"
        except AgentError as error:
            answer = _encode({"error": str(error), **error.to_dict()})
        try:
            peer.send(answer)
        except OSError:  # it does not read its answers, or has gone
            self._forget(peer)

    def _adopt(self, peer: socket.socket, data: bytes, descriptors: list[int], flags: int) -> None:
        caller, names = self._peers[peer]
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) or len(descriptors) != 1:
                raise BadPayload(f"a packet has one descriptor and at most {MAX_PACKET} bytes")
            passed = _decode(data)
        except BaseException:
            _close(descriptors)
            raise
        self._regions.adopt(caller, passed.region, descriptors[0], passed.byte_size)
        names.append(passed.region)

    def _forget(self, peer: socket.socket) -> None:
        caller, names = self._peers.pop(peer)
        self._loop.remove_reader(peer)
        peer.close()
        for name in names:
            with contextlib.suppress(Forbidden):
                self._regions.unregister(caller, name)


def _decode(data: bytes) -> Passed:
    try:
        return msgspec.json.decode(data, type=Passed)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadPayload(f"not a registration: {error}") from None


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
