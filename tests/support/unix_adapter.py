"""Lets the library `requests`, which schemathesis sends with, talk to a Unix socket."""

import socket
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _Connection(HTTPConnection):
    path = Path()

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self.path))


class UnixAdapter(HTTPAdapter):
    """Sends every request to one socket, whatever its host."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._pool = HTTPConnectionPool("localhost")
        self._pool.ConnectionCls = type("Connection", (_Connection,), {"path": path})

    def get_connection_with_tls_context(self, *_: Any, **__: Any) -> HTTPConnectionPool:
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


def session(path: Path) -> requests.Session:
    """A session over the socket, for addresses that begin with http://device."""
    made = requests.Session()
    made.mount("http://device", UnixAdapter(path))
    return made
