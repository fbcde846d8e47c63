"""The socket's file: never visible with the wrong permissions, never taken from a living daemon."""

import contextlib
import os
import socket
import stat
from pathlib import Path

from agent.api.callers import group_id, user_id
from agent.api.settings import ApiSettings
from agent.errors import NotReachable

BACKLOG = 512  # connections that wait to be accepted


def open_listener(
    settings: ApiSettings, path: Path, kind: int = socket.SOCK_STREAM
) -> socket.socket:
    """A listening socket at a path, with the configured owner and permissions.

    It is bound under a temporary name, given its owner and permissions, and renamed into place, so
    that nobody can connect before it is as it should be.

    Raises:
        NotReachable: another process listens there, or the place cannot be written.
        BadConfig: the configured owner or group does not exist.
    """
    owner = user_id(settings.owner, "owner") if settings.owner else -1
    group = group_id(settings.group, "group") if settings.group else -1
    refuse_living(path, kind)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    try:
        temporary.unlink(missing_ok=True)
        _bind(listener, temporary)
        os.chown(temporary, owner, group)
        temporary.chmod(settings.permissions)
        listener.listen(BACKLOG)
        temporary.rename(path)
    except OSError as error:
        listener.close()
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise NotReachable(f"cannot listen: {error.strerror or error}", where=str(path)) from error
    return listener


def remove(path: Path, inode: int) -> None:
    """Take the file away, unless somebody has put another one there."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def refuse_living(path: Path, kind: int) -> None:
    """A file that nobody listens on may be replaced; anything else may not.

    Raises:
        NotReachable: a process listens there, or the file is not a socket.
    """
    try:
        mode = path.lstat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise NotReachable("there is a file that is not a socket", where=str(path))
    with socket.socket(socket.AF_UNIX, kind) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as error:
            raise NotReachable(f"cannot tell who listens: {error}", where=str(path)) from error
    raise NotReachable(
        "another daemon listens there", where=str(path), hint="Stop it, or configure another socket"
    )


def _bind(listener: socket.socket, path: Path) -> None:
    # The umask closes the moment between bind and chmod too, though only the temporary name shows it.
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
