"""The verified files of a package, as they lie in sealed memory."""

import mmap
import os
from collections.abc import Iterator, Mapping


class SealedFiles(Mapping[str, bytes]):
    """Files by their path in the package; read when they are asked for.

    The memory cannot be changed by anybody any more, so what was hashed is what is loaded, also by a
    library that wants a path: `path` gives one that leads to this memory and to nothing on a disk.
    """

    def __init__(self, descriptors: Mapping[str, int]) -> None:
        self._descriptors = dict(descriptors)

    def __getitem__(self, name: str) -> bytes:
        descriptor = self._descriptors[name]
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0) if size < 2**30 else bytes(self.view(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._descriptors)

    def __len__(self) -> int:
        return len(self._descriptors)

    def view(self, name: str) -> memoryview:
        """A file's bytes where they are, without a copy. Raises KeyError."""
        descriptor = self._descriptors[name]
        size = os.fstat(descriptor).st_size
        return memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))

    def path(self, name: str) -> str:
        """A path at which this process alone finds the file. Raises KeyError."""
        return f"/proc/self/fd/{self._descriptors[name]}"

    def close(self) -> None:
        """Close the descriptors; views that were given stay. Idempotent."""
        while self._descriptors:
            os.close(self._descriptors.popitem()[1])
