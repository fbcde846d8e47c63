"""A folder that is lent to a library, and what is left of it."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent.engines.folder import PREFIX, LentFolder
from agent.errors import StorageFailed

FILES = {"model.onnx": b"graph", "data/weights": os.urandom(40 * 4096)}


def test_it_is_private_and_made_of_the_bytes_given() -> None:
    folder = LentFolder(FILES, FILES)
    assert (folder.path / "data/weights").read_bytes() == FILES["data/weights"]
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "model.onnx").stat().st_mode & 0o777 == 0o600
    folder.close()
    folder.close()
    assert not folder.path.exists()


def test_what_is_withdrawn_costs_only_what_is_still_mapped() -> None:
    folder = LentFolder(FILES, FILES)
    path = folder.path / "data/weights"
    descriptor = os.open(path, os.O_RDONLY)
    mapped = mmap.mmap(descriptor, 2 * 4096, prot=mmap.PROT_READ, offset=8 * 4096)
    folder.withdraw(["data/weights"])
    assert not path.exists()
    assert os.fstat(descriptor).st_blocks * 512 <= 4 * 4096
    assert mapped[:] == FILES["data/weights"][8 * 4096 : 10 * 4096]
    mapped.close()
    os.close(descriptor)
    folder.close()


def test_folders_of_processes_that_are_gone_are_removed() -> None:
    program = (
        "from agent.engines.folder import LentFolder; import os\n"
        "print(LentFolder({'a': b'x'}, ['a']).path, flush=True); os._exit(9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    left = Path(done.stdout.strip())
    assert left.name.startswith(PREFIX)
    assert left.exists()
    LentFolder(FILES, []).close()
    assert not left.exists()


def test_files_that_fit_nowhere_are_refused() -> None:
    class Huge(dict[str, bytes]):
        def __getitem__(self, _: str) -> bytes:
            return _Long()

    class _Long(bytes):
        def __len__(self) -> int:
            return 2**50

    with pytest.raises(StorageFailed, match="no room"):
        LentFolder(Huge(), ["weights"])
