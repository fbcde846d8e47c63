"""Secrets and slow work around a new connection."""

import asyncio
import ssl
import threading
from collections.abc import Callable
from typing import Any

from agent.errors import BadConfig
from agent.sync.settings import LinkSettings


async def in_thread(loop: asyncio.AbstractEventLoop, work: Callable[[], Any]) -> Any:
    """Run blocking work in a thread that nobody has to wait for when the agent stops."""
    result: asyncio.Future[Any] = loop.create_future()

    def run() -> None:
        value, error = None, None
        try:
            value = work()
        except Exception as caught:  # noqa: BLE001 - it is raised where the work was asked for
            error = caught
        try:
            loop.call_soon_threadsafe(_deliver, result, value, error)
        except RuntimeError:
            _discard(value)

    threading.Thread(target=run, name="mqtt-dial", daemon=True).start()
    return await result


def _deliver(result: "asyncio.Future[Any]", value: Any, error: Exception | None) -> None:
    if result.done():
        _discard(value)
    elif error is None:
        result.set_result(value)
    else:
        result.set_exception(error)


def _discard(value: Any) -> None:
    if value is not None:
        value.close()


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
