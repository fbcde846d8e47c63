"""A repository on a web server. The only file that imports urllib3.

What a server may do wrong, and what happens then: it cuts, and the reading goes on where it stopped
(RFC 9110, section 14); it ignores ranges, and the bytes that are known are read again and dropped;
it sends without end, and the reader stops asking at the signed length; it drips, and is given up; it
redirects, and is followed a few times, never away from TLS and never to another scheme.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from agent import __version__
from agent.errors import AgentError, BadConfig, NotFound, NotReachable
from agent.trust.source import Source, inside

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse, PoolManager

_CHUNK_BYTES = 256 << 10
_MISSING = {403, 404, 410}  # a bucket that nobody may list answers 403 for what it does not have
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class WebLimits:
    """How long a server is waited for.

    Attributes:
        connect_s: for each of name, TCP and TLS, seconds.
        silence_s: longest pause between two packets, seconds.
        window_s: stretch of time in which `least_bytes` must come, or the end, seconds.
        least_bytes: of a body in each window; its head counts as nothing.
        redirects: followed for one file.
        tries: connections in a row that bring nothing, after which the file is given up.
        pause_s: before the second of them, and twice that before the third, seconds.
    """

    connect_s: float = 10.0
    silence_s: float = 20.0
    window_s: float = 30.0
    least_bytes: int = 16 << 10
    redirects: int = 3
    tries: int = 3
    pause_s: float = 1.0


class WebSource(Source):
    """A repository below a URL. Read from one thread at a time.

    Args:
        url: of the directory that holds ``metadata/`` and ``targets/``, https or http. What is
            signed is verified all the same; TLS adds that nobody on the way sees or withholds it.
        ca_file: certificates to trust instead of the system's, PEM.
        certificate_file, key_file: the device's own, for a server that asks for one, PEM.
        limits: how long the server is waited for.

    Raises:
        BadConfig: not such a URL, or a file that cannot be read.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        certificate_file: Path | None = None,
        key_file: Path | None = None,
        limits: WebLimits | None = None,
    ) -> None:
        _check_url(url)
        self._base = url.rstrip("/") + "/"
        self._limits = limits or WebLimits()
        self._watch = _Watch(self._limits)
        context = _tls_context(ca_file, certificate_file, key_file)
        self._pool = _pool_manager(self._base, context, self._watch)

    def read(self, path: str, offset: int = 0) -> Iterator[bytes]:
        url = self._base + quote(inside(path), safe="/%")
        failures = 0
        while True:
            try:
                for chunk in self._stream(url, offset):
                    failures = 0
                    offset += len(chunk)
                    yield chunk
            except _Cut as cut:
                failures += 1
                if failures == self._limits.tries:
                    raise NotReachable(str(cut), where=url) from cut.__cause__
                time.sleep(self._limits.pause_s * 2 ** (failures - 1))
            else:
                return

    def _stream(self, url: str, offset: int) -> Iterator[bytes]:
        """One connection's part of a file, from `offset` on. Raises _Cut when it breaks."""
        from urllib3.exceptions import HTTPError

        response = None
        try:
            response = self._follow(url, offset)
            yield from self._body(response, url, offset)
        except (HTTPError, OSError) as error:
            raise _failure(error, url, self._watch) from error
        finally:
            self._watch.end()
            if response is not None:
                response.close()

    def _follow(self, url: str, offset: int) -> "BaseHTTPResponse":
        """The answer after its redirects."""
        for _ in range(self._limits.redirects + 1):
            response = self._request(url, offset)
            if response.status not in _REDIRECTS:
                return response
            response.close()
            url = _redirected(url, response.headers.get("Location", ""))
        raise NotReachable(f"redirects more than {self._limits.redirects} times", where=url)

    def _request(self, url: str, offset: int) -> "BaseHTTPResponse":
        from urllib3 import Timeout

        headers = {"User-Agent": f"edge-agent/{__version__}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        return self._pool.request(
            "GET",
            url,
            headers=headers,
            timeout=Timeout(connect=self._limits.connect_s, read=self._limits.silence_s),
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
        )

    def _body(self, response: "BaseHTTPResponse", url: str, offset: int) -> Iterator[bytes]:
        status = response.status
        if status == 416:  # there is nothing beyond what is known
            return
        if status in _MISSING:
            raise NotFound("the repository has no such file", where=url)
        if status not in {200, 206}:
            raise _bad_status(status, url)
        known = _bytes_to_drop(response, offset)
        while chunk := response.read1(_CHUNK_BYTES):
            self._watch.count(len(chunk))
            if len(chunk) > known:
                yield chunk[known:]
            known = max(0, known - len(chunk))
        if self._watch.expired:  # a body without a length just ends
            raise _Cut("the server is too slow")


class _Cut(Exception):
    """A connection ended before the file did; another may bring the rest."""


class _Watch:
    """Shuts the connection that brings too little in a stretch of time, whatever it waits for.

    A time-out between packets does not see a server that sends one byte a second; and a library
    that reads a line, of a head or of a chunk's length, does not come back before its end.
    """

    def __init__(self, limits: WebLimits) -> None:
        self.expired = False
        self._limits = limits
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._came = 0
        self._timer: threading.Timer | None = None

    def begin(self, sock: socket.socket) -> None:
        """Watch a connection from now on."""
        with self._lock:
            self._socket, self._came, self.expired = sock, 0, False
            self._restart()

    def count(self, size: int) -> None:
        """So many bytes of the body came."""
        with self._lock:
            self._came += size

    def end(self) -> None:
        """Watch no longer. Idempotent."""
        with self._lock:
            self._socket = None
            if self._timer is not None:
                self._timer.cancel()

    def _restart(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = threading.Timer(self._limits.window_s, self._look)
        self._timer.daemon = True
        self._timer.start()

    def _look(self) -> None:
        with self._lock:
            if self._socket is None:
                return
            if self._came >= self._limits.least_bytes:
                self._came = 0
                self._restart()
                return
            self.expired = True
            try:  # below TLS, which would wait for the peer's goodbye
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)
            except OSError:
                return  # it ended by itself


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise BadConfig("expected https://HOST/PATH", where=url)
    if parts.username or parts.password or parts.query or parts.fragment:
        hint = "A server that asks who the device is gets its certificate: models.certificate_file"
        raise BadConfig("a login, query or fragment has no place here", where=url, hint=hint)


def _tls_context(
    ca_file: Path | None, certificate_file: Path | None, key_file: Path | None
) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=ca_file)
        if certificate_file is not None:
            context.load_cert_chain(certificate_file, key_file)
    except (OSError, ssl.SSLError) as error:
        names = ", ".join(str(path) for path in (ca_file, certificate_file, key_file) if path)
        reason = error.strerror or str(error)
        raise BadConfig(f"the certificates cannot be read: {reason}", where=names) from error
    return context


def _pool_manager(url: str, context: ssl.SSLContext, watch: _Watch) -> "PoolManager":
    """Connections that are watched, by the proxy that the environment names, if any."""
    from urllib.request import getproxies, proxy_bypass

    import urllib3

    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme)
    if proxy and not proxy_bypass(parts.netloc):
        manager: PoolManager = urllib3.ProxyManager(proxy, ssl_context=context)
    else:
        manager = urllib3.PoolManager(ssl_context=context)
    manager.pool_classes_by_scheme = {
        scheme: _watched(pool, watch) for scheme, pool in manager.pool_classes_by_scheme.items()
    }
    return manager


def _watched(pool: Any, watch: _Watch) -> Any:
    class Connection(pool.ConnectionCls):  # type: ignore[misc]
        def getresponse(self) -> Any:
            watch.begin(self.sock)
            return super().getresponse()

    return type(pool.__name__, (pool,), {"ConnectionCls": Connection})


def _redirected(url: str, location: str) -> str:
    target = urljoin(url, location)
    allowed = {"https"} if url.startswith("https:") else {"https", "http"}
    if not location or urlsplit(target).scheme not in allowed:
        message = f"redirects to {location[:200] or 'nowhere'}, which is not followed"
        raise NotReachable(message, where=url)
    return target


def _bytes_to_drop(response: "BaseHTTPResponse", offset: int) -> int:
    """How much of the body is known: none of a range, `offset` bytes of a whole file."""
    if response.status == 200:
        return offset
    found = response.headers.get("Content-Range", "")
    if not found.replace("=", " ").startswith(f"bytes {offset}-"):
        raise _Cut(f"the server sent another range than bytes {offset}-")
    return 0


def _bad_status(status: int, url: str) -> Exception:
    if status == 429 or status >= 500:
        return _Cut(f"the server answers {status}")
    hint = ""
    if status in {401, 407}:
        hint = "It asks who the device is: see models.certificate_file"
    return NotReachable(f"the server answers {status}", where=url, hint=hint)


def _failure(error: Exception, url: str, watch: _Watch) -> "AgentError | _Cut":
    """What a broken connection means: another try, or, where TLS does not trust it, none."""
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text or "certificate verify failed" in text:
        hint = "Name the authority that signed it: models.ca_file"
        return NotReachable("the server's certificate is not trusted", where=url, hint=hint)
    if watch.expired:
        return _Cut("the server is too slow")
    return _Cut(f"the connection failed: {text.rpartition('>: ')[2][:200] or type(error).__name__}")
