"""Files in the safetensors format, written without its library."""

import json
from collections.abc import Mapping

import numpy as np


def safetensors(tensors: Mapping[str, np.ndarray]) -> bytes:
    """A file with float32 tensors."""
    header, data = {}, b""
    for name, array in tensors.items():
        raw = array.astype("<f4").tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
