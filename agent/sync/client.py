"""paho's client, given a socket instead of connecting one itself: connecting blocks."""

import socket
import ssl
from typing import Any

import paho.mqtt.client as paho


class DialledClient(paho.Client):
    """paho's client over a socket that is connected in another thread."""

    prepared: Any = None
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

    @property
    def incoming_size(self) -> int:
        """Bytes that the packet being read says it has."""
        return int(self._in_packet["remaining_length"])
