"""Who uses a folder of the work directory: several that read it, or one that changes it.

The lock is a file beside the folder, which the kernel frees when its holder dies. Whoever removes the
folder removes the lock too, so that a lock counts only while its file is the one of that name.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from agent.registry.layout import storage


@contextmanager
def held(folder: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder, which need not exist; waits until that can be.

    Args:
        folder: whose lock is taken.
        shared: others may hold it too, so long as all of them only read.

    Raises:
        StorageFailed: the disk is full, read-only or failing.
    """
    file = _taken(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    assert file is not None
    with file:
        yield


@contextmanager
def held_for_removal(folder: Path) -> Iterator[bool]:
    """Hold a folder if nobody does; whether it is held. The lock goes with it.

    Raises:
        StorageFailed: the disk is full, read-only or failing.
    """
    file = _taken(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if file is None:
        yield False
        return
    with file:
        yield True
        _lock_of(folder).unlink(missing_ok=True)


def _taken(folder: Path, how: int) -> IO[bytes] | None:
    path = _lock_of(folder)
    with storage(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            file = path.open("ab")
            try:
                fcntl.flock(file, how)
                if _is_named(file, path):
                    return file
            except BlockingIOError:
                file.close()
                return None
            except BaseException:
                file.close()
                raise
            file.close()  # removed by who held it before: there may be another one by now


def _is_named(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")
