"""Tell systemd what the daemon does (sd_notify(3)). Silent when systemd did not start it."""

import os
import socket


def notify(state: str) -> None:
    """Send one state, for example ``READY=1`` or ``STOPPING=1``; never fails, never blocks."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # the abstract namespace
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as channel:
            channel.sendto(state.encode(), address)
    except OSError:
        pass  # a supervisor that does not listen must not stop the daemon
