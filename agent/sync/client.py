"""paho's client, given a socket instead of connecting one itself: connecting blocks."""

import socket
import ssl
from typing import Any

import paho.mqtt.client as paho


class Oversized(Exception):
    """A packet is larger than may be taken; nothing of it was read but its length.

    Attributes:
        kind: of the packet, the upper four bits of its first byte.
        flags: the lower four.
        size: bytes that it has.
    """

    def __init__(self, first: int, size: int) -> None:
        super().__init__(f"a packet of {size} bytes")
        self.kind, self.flags, self.size = first >> 4, first & 0x0F, size


class DialledClient(paho.Client):
    """paho's client over a socket that is connected in another thread.

    Attributes:
        prepared: the connected socket.
        max_incoming: bytes of the largest packet taken.
    """

    prepared: Any = None
    max_incoming: int = 256 << 20
    _dialled: socket.socket | None = None

    def dial(self) -> Any:
        """Connect a socket: name, TCP, TLS, WebSocket. Blocks; runs in a thread.

        Raises:
            OSError, ValueError: no connection.
        """
        try:
            return super()._create_socket()
        except BaseException:
            if self._dialled is not None:
                self._dialled.close()  # paho leaves it to the garbage collector
            raise

    def _create_socket(self) -> Any:
        return self.prepared

    def _create_socket_connection(self) -> socket.socket:
        self._dialled = super()._create_socket_connection()
        self._dialled.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._dialled

    def _ssl_wrap_socket(self, tcp_sock: socket.socket) -> ssl.SSLSocket:
        assert self._ssl_context is not None
        self._dialled = sock = self._ssl_context.wrap_socket(
            tcp_sock, server_hostname=self._host, do_handshake_on_connect=False
        )
        sock.settimeout(self._connect_timeout)
        sock.do_handshake()
        return sock

    def _sock_recv(self, bufsize: int) -> bytes:
        """Read, unless it would be the body of a packet that is too large.

        Raises:
            Oversized: it would.
        """
        packet = self._in_packet
        if packet["have_remaining"] and packet["remaining_length"] > self.max_incoming:
            first, size = packet["command"], packet["remaining_length"]
            self._in_packet = {
                "command": 0, "have_remaining": 0, "remaining_count": [], "remaining_mult": 1,
                "remaining_length": 0, "packet": bytearray(), "to_process": 0, "pos": 0,
            }  # fmt: skip
            raise Oversized(first, size)
        return super()._sock_recv(bufsize)
