"""Affine quantization: real = (stored - zero_point) * scale.

The arithmetic of "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference" (Jacob et al., 2018), as ONNX's QuantizeLinear and LiteRT define
it: rounding half to even, saturating at the ends of the stored type.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.engines.base import NUMPY_DTYPES
from agent.types import Array, DType, Quantization


def quantize(array: Array, quantization: Quantization, dtype: DType) -> Array:
    """Real values as stored integers.

    Args:
        array: real values, any shape. NaN has no integer: it is stored as the zero point, which
            stands for 0.0; infinities saturate.
        quantization: of the tensor that the values are for.
        dtype: stored type, an integer type of at most 32 bits.

    Returns:
        An array of `dtype` and the same shape.
    """
    stored = NUMPY_DTYPES[dtype]
    limits = np.iinfo(stored)
    steps = np.rint(np.asarray(array, dtype=np.float64) / quantization.scale)
    steps += quantization.zero_point
    np.nan_to_num(steps, copy=False, nan=quantization.zero_point, posinf=np.inf, neginf=-np.inf)
    return np.clip(steps, limits.min, limits.max).astype(stored)


def dequantize(array: NDArray[Any], quantization: Quantization) -> NDArray[np.float32]:
    """Stored integers as real values, float32, same shape."""
    steps = array.astype(np.float32) - np.float32(quantization.zero_point)
    return steps * np.float32(quantization.scale)
