"""Arrays as a NumPy archive whose bytes depend on nothing but the arrays. Pure."""

import io
import zipfile
from collections.abc import Mapping

import numpy as np

from agent.types import Array

#: NumPy itself writes the time of day into its archives; and compressed bytes are those of one
#: release of the compressor, so that entries are stored as they are.
EPOCH = (1980, 1, 1, 0, 0, 0)


def archived(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of an npz file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
            archive.writestr(entry, _npy(array))
    return buffer.getvalue()


def _npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), allow_pickle=False)
    return buffer.getvalue()
