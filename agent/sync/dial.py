"""Secrets and slow work around a new connection."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from agent.errors import BadConfig
from agent.sync.settings import BrokerAddress, LinkSettings


async def answers(address: BrokerAddress, patience_s: float) -> bool:
    """Whether somebody listens at an address; more is known when it is spoken to."""
    try:
        sock = await in_thread(
            lambda: socket.create_connection((address.host, address.port), patience_s)
        )
    except OSError:
        return False
    sock.close()
    return True


async def in_thread(work: Callable[[], Any]) -> Any:
    """Run blocking work in a thread that nobody has to wait for when the agent stops.

    What the work returns is closed when the caller was cancelled meanwhile.
    """
    return await _Errand(work).done()


class _Errand:
    """Work in a thread of its own, which may outlive whoever wanted it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._work = work
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Any] = self._loop.create_future()
        self._lock = threading.Lock()
        self._abandoned = False
        self._value: Any = None
        self._error: Exception | None = None

    async def done(self) -> Any:
        threading.Thread(target=self._run, name="mqtt-dial", daemon=True).start()
        try:
            return await self._future
        except asyncio.CancelledError:
            with self._lock:
                self._abandoned = True
                self._discard()
            raise

    def _run(self) -> None:
        try:
            self._value = self._work()
        except Exception as caught:  # noqa: BLE001 - it is raised where the work was asked for
            self._error = caught
        with self._lock:
            if self._abandoned or self._loop.is_closed():
                self._discard()
            else:
                self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        if self._future.done():
            return
        if self._error is None:
            self._future.set_result(self._value)
        else:
            self._future.set_exception(self._error)

    def _discard(self) -> None:
        if self._value is not None:
            self._value.close()


def tls_context(settings: LinkSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.certificate_file and settings.key_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context


def password(settings: LinkSettings) -> str | None:
    if settings.password_file is None:
        return None
    try:
        return settings.password_file.read_text(encoding="utf-8").split("\n", 1)[0]
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"cannot be read: {error}", where="password_file") from error
