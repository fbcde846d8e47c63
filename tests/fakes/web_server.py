"""A web server over files in memory, by TLS or without, that misbehaves on request."""

import contextlib
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

Fault = Callable[["Handler", bytes], None]


@dataclass
class Request:
    """What a client asked for."""

    path: str
    range: str


@dataclass
class WebServer:
    """Serves `files` with ranges, except where `faults` says otherwise.

    Attributes:
        files: contents by path, without the leading slash.
        faults: by the ending of a path, what to do instead of answering; given the handler and the
            bytes that it should have sent.
        requests: everything that was asked for.
        url: of its root.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    stopping: threading.Event = field(default_factory=threading.Event)

    def publish(self, directory: Path) -> None:
        """Serve what a directory holds now."""
        paths = [path for path in directory.rglob("*") if path.is_file()]
        self.files = {str(path.relative_to(directory)): path.read_bytes() for path in paths}

    def ranges(self, ending: str) -> list[str]:
        """The ranges that were asked of the files with an ending; empty text for none."""
        return [request.range for request in self.requests if request.path.endswith(ending)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: WebServer

    def do_GET(self) -> None:
        path = unquote(self.path.lstrip("/"))
        asked = self.headers.get("Range", "")
        self.web.requests.append(Request(path, asked))
        data = self.web.files.get(path)
        fault = next((f for end, f in self.web.faults.items() if path.endswith(end)), None)
        with contextlib.suppress(OSError):
            if fault is not None:
                fault(self, data or b"")
            elif data is None:
                self.answer(404, b"no such file")
            else:
                self.serve(data, asked)

    def serve(self, data: bytes, asked: str) -> None:
        """A file, or the part of it that was asked for."""
        if not asked:
            self.answer(200, data)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(data):
            self.answer(416, b"")
            return
        where = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self.answer(206, data[start:], {"Content-Range": where})

    def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.head(status, {"Content-Length": str(len(body)), **(headers or {})})
        self.wfile.write(body)

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def cut(self) -> None:
        """Close the connection after this answer, whatever its length should have been."""
        self.close_connection = True

    def wait(self, seconds: float) -> bool:
        """Sleep; True when the server stops meanwhile."""
        return self.web.stopping.wait(seconds)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextlib.contextmanager
def web_server(certificates: dict[str, Path] | None = None) -> Iterator[WebServer]:
    """A server on a free port of the loopback interface."""
    web = WebServer()
    handler = type("Handler", (Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign] # clients that leave early
    scheme = "http"
    if certificates:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates["server"], certificates["server_key"])
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        scheme = "https"
    web.url = f"{scheme}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield web
    finally:
        web.stopping.set()
        server.shutdown()
        server.server_close()
        thread.join()


# Faults.


def cut_after(size: int, *, times: int) -> Fault:
    """Send so much of what is asked for, then close; after so many times, behave."""
    left = times

    def fault(handler: Handler, data: bytes) -> None:
        nonlocal left
        asked = handler.headers.get("Range", "")
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        if left == 0:
            handler.serve(data, asked)
            return
        left -= 1
        where = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if asked else {}
        handler.head(206 if asked else 200, {"Content-Length": str(len(data) - start), **where})
        handler.wfile.write(data[start : start + size])
        handler.cut()

    return fault


def drip(handler: Handler, data: bytes) -> None:
    """One byte now and then: never silent, never done."""
    handler.head(200, {"Content-Length": str(len(data))})
    for byte in data:
        handler.wfile.write(bytes([byte]))
        if handler.wait(0.02):
            return


def drip_the_head(handler: Handler, _: bytes) -> None:
    """An answer's head that never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        handler.wfile.write(b"x")
        if handler.wait(0.02):
            return


def silence(handler: Handler, _: bytes) -> None:
    """Never answers."""
    handler.wait(30)


def endless(handler: Handler, _: bytes) -> None:
    """A body without a length and without an end."""
    handler.head(200, {"Connection": "close"})
    handler.cut()
    while not handler.wait(0):
        handler.wfile.write(bytes(1 << 16))


def status(code: int) -> Fault:
    return lambda handler, _: handler.answer(code, b"")


def redirect(location: str) -> Fault:
    return lambda handler, _: handler.answer(302, b"", {"Location": location})


def announce(length: int) -> Fault:
    """A length that is not the body's."""

    def fault(handler: Handler, data: bytes) -> None:
        handler.head(200, {"Content-Length": str(length)})
        handler.wfile.write(data)
        handler.cut()

    return fault


def ignore_ranges(handler: Handler, data: bytes) -> None:
    """Always the whole file."""
    handler.answer(200, data)


def another_range(handler: Handler, data: bytes) -> None:
    """A range that nobody asked for."""
    handler.answer(206, data[1:], {"Content-Range": f"bytes 1-{len(data) - 1}/{len(data)}"})
