"""A connected socket on the event loop that reads and writes in large pieces.

An MQTT library reads a header byte by byte and writes packet by packet: three system calls for an
acknowledgement of four bytes. Here one system call takes whatever has arrived and one gives away
whatever was written in a turn of the loop; the library sees the socket interface it expects.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable

_CHUNK = 64 << 10  # bytes read at once
_MAX_UNSENT = 1 << 20  # bytes held for a peer that does not read

_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Transport:
    """Looks like a non-blocking socket to the library, and like a protocol to the loop.

    Attributes:
        arrived: bytes read from the peer so far.
    """

    def __init__(
        self,
        sock: socket.socket,
        loop: asyncio.AbstractEventLoop,
        *,
        on_data: Callable[[], None],
        on_writable: Callable[[], None],
        on_error: Callable[[OSError], None],
    ) -> None:
        """Take over a connected socket.

        Args:
            sock: plain, TLS or WebSocket; closed with the transport.
            loop: calls `on_data` while there is something to `recv`, end of stream included.
            on_data: must `recv` until that raises `BlockingIOError`.
            on_writable: the peer reads again; must call `flush`.
            on_error: the connection broke while writing.
        """
        sock.setblocking(False)
        self.arrived = 0
        self._sock = sock
        self._loop = loop
        self._on_data = on_data
        self._on_writable = on_writable
        self._on_error = on_error
        self._fd = sock.fileno()
        self._received = b""
        self._at = 0
        self._ended = False
        self._unsent = bytearray()
        self._waiting_to_write = False
        self._closed = False
        loop.add_reader(self._fd, self._readable)

    @property
    def readable(self) -> bool:
        """Whether `recv` has something to give."""
        return not self._closed and (self._at < len(self._received) or self._ended)

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes that have arrived; empty at the end of the stream.

        Raises:
            BlockingIOError: nothing is here now.
        """
        start = self._at
        if start >= len(self._received):
            if self._ended:
                return b""
            raise BlockingIOError
        self._at = start + size
        return self._received[start : self._at]

    def send(self, data: bytes | bytearray) -> int:
        """Take everything; it leaves with the next `flush`.

        Raises:
            BlockingIOError: enough is held already; come again after the next `flush`.
        """
        if len(self._unsent) > _MAX_UNSENT:
            raise BlockingIOError
        self._unsent += data
        return len(data)

    def flush(self) -> bool:
        """Give away what was written; False when the peer does not take all of it yet."""
        try:
            while self._unsent and not self._closed:
                del self._unsent[: self._sock.send(self._unsent)]
        except _WOULD_BLOCK:
            self._wait_to_write()
        except OSError as error:
            self.close()
            self._on_error(error)
        else:
            self._stop_waiting()
        return not self._unsent

    def close(self) -> None:
        """Leave the loop and close the socket. Idempotent."""
        if not self._closed:
            self._closed = True
            self._stop_waiting()
            self._loop.remove_reader(self._fd)
            self._sock.close()

    def fileno(self) -> int:
        """The descriptor."""
        return self._fd

    def setblocking(self, flag: bool) -> None:
        """Ignored: a transport never blocks."""

    def _readable(self) -> None:
        try:
            data = self._read()
        except _WOULD_BLOCK:
            return
        except OSError:
            data = b""
        if data:
            self.arrived += len(data)
            self._received = self._received[self._at :] + data
            self._at = 0
        else:
            self._ended = True
            self._loop.remove_reader(self._fd)
        self._on_data()

    def _read(self) -> bytes:
        """What has arrived; a TLS layer may hold more than the kernel shows."""
        data = self._sock.recv(_CHUNK)
        pending = getattr(self._sock, "pending", None)
        while data and pending is not None and pending() > 0:
            try:
                data += self._sock.recv(_CHUNK)
            except _WOULD_BLOCK:
                break
        return bytes(data)

    def _wait_to_write(self) -> None:
        if not self._waiting_to_write:
            self._waiting_to_write = True
            self._loop.add_writer(self._fd, self._on_writable)

    def _stop_waiting(self) -> None:
        if self._waiting_to_write:
            self._waiting_to_write = False
            self._loop.remove_writer(self._fd)
