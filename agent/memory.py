"""Gives back to the system what a start needed and the running daemon does not."""

import ctypes
import gc


def settle() -> None:
    """Collect garbage, and return free memory of the allocator to the system where it can.

    Imports, decoders and the reading of settings leave megabytes that would stay for as long as the
    daemon runs: the allocator keeps them for a next time that does not come. What is left is not
    looked at again by the collector.
    """
    gc.collect()
    gc.freeze()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
