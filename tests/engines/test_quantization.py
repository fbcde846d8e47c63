"""Affine quantization: rounding, saturation, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.engines.quantization import dequantize, quantize
from agent.types import Quantization


def test_rounds_half_to_even() -> None:
    stored = quantize(np.array([0.5, 1.5, 2.5, -0.5, -1.5]), Quantization(1.0), "INT8")
    assert stored.tolist() == [0, 2, 2, 0, -2]


@pytest.mark.parametrize(("dtype", "low", "high"), [("INT8", -128, 127), ("UINT8", 0, 255)])
def test_saturates_at_the_ends(dtype: str, low: int, high: int) -> None:
    stored = quantize(np.array([-1e30, 1e30, -np.inf, np.inf]), Quantization(0.1, 3), dtype)  # type: ignore[arg-type]
    assert stored.tolist() == [low, high, low, high]


def test_nan_is_stored_as_zero() -> None:
    assert quantize(np.array([np.nan]), Quantization(0.1, 5), "INT8").tolist() == [5]


@given(
    st.integers(-128, 127),
    st.floats(1e-6, 1e3, allow_subnormal=False),
    st.integers(-128, 127),
)
def test_stored_values_survive_the_round_trip(stored: int, scale: float, zero_point: int) -> None:
    q = Quantization(scale, zero_point)
    there = dequantize(np.array([stored], np.int8), q)
    assert there.dtype == np.float32
    assert quantize(there, q, "INT8").tolist() == [stored]
