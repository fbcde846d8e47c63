"""Matrices of few bits stand for what they were made of, and the runtime reads them so."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.quantize.language.weights import Blocks, compensated, nearest, shifted

RANDOM = np.random.default_rng(3)


def matrix(rows: int = 24, length: int = 128) -> np.ndarray:
    return RANDOM.normal(0, 0.1, (rows, length)).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.sampled_from([16, 32, 64]), st.booleans())
def test_rounding_loses_at_most_half_a_step_and_what_was_clipped(
    seed: int, block: int, centred: bool
) -> None:
    values = np.random.default_rng(seed).normal(0, 1, (3, 128)).astype(np.float32)
    for bits, most in ((4, 0.35), (8, 0.03)):
        made = nearest(values, bits=bits, block=block, centred=centred)
        assert made.values.max() < 2**bits
        assert made.block == block
        assert np.abs(made.dequantized() - values).max() <= most * np.abs(values).max()


def test_a_grid_is_found_again_exactly() -> None:
    values = (RANDOM.integers(0, 16, (4, 64)).astype(np.float32) - 5) * 0.25
    values.reshape(4, 2, 32)[..., 0], values.reshape(4, 2, 32)[..., 1] = -1.25, 2.5
    made = nearest(values, bits=4, block=32, centred=False)
    np.testing.assert_array_equal(made.dequantized(), values)


def test_scales_are_values_of_float16() -> None:
    made = nearest(matrix(), bits=4, block=32, centred=False)
    np.testing.assert_array_equal(made.scales.astype(np.float16).astype(np.float32), made.scales)


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0, -3.0])
def test_constant_blocks_are_finite(value: float) -> None:
    for centred in (True, False):
        made = nearest(np.full((2, 64), value, np.float32), bits=4, block=32, centred=centred)
        assert np.abs(made.dequantized() - value).max() <= 0.1 * abs(value) + 1e-5


def gguf(seed: int, *, whole: bool, spread: int = 15) -> np.ndarray:
    """Weights as a GGUF file has them: Q4_1, or with zero points that are whole, Q4_0."""
    random = np.random.default_rng(seed)
    steps = random.integers(0, spread + 1, (6, 4, 32))
    steps[..., 0], steps[..., 1] = 0, spread
    scales = random.uniform(1e-3, 0.1, (6, 4, 1)).astype(np.float16).astype(np.float32)
    low = -8 * scales if whole else (-scales * random.uniform(2, 13, scales.shape)).astype("f2")
    return (steps * scales + low.astype(np.float32)).reshape(6, 128).astype(np.float32)


@given(st.integers(0, 2**32 - 1), st.integers(9, 15))
def test_weights_with_whole_zero_points_are_found_again_exactly(seed: int, spread: int) -> None:
    values = gguf(seed, whole=True, spread=spread)
    made = shifted(values, bits=4, block=32)
    assert made.offsets is None
    np.testing.assert_allclose(made.dequantized(), values, rtol=1e-6, atol=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(9, 15))
def test_weights_with_offsets_are_found_again_to_a_part_of_a_step(seed: int, spread: int) -> None:
    values = gguf(seed, whole=False, spread=spread)
    made = shifted(values, bits=4, block=32)
    largest = made.scales.max(axis=1, keepdims=True)  # an offset's own scale is its row's
    assert (np.abs(made.dequantized() - values) <= 0.08 * largest).all()
    whole = nearest(values, bits=4, block=32, centred=False).dequantized()
    lost, before = np.square(made.dequantized() - values), np.square(whole - values)
    assert lost.sum() < 0.1 * before.sum()


@given(st.integers(0, 2**32 - 1), st.sampled_from([32, 160, 1056]))
def test_a_widened_matrix_multiplies_with_the_means_of_blocks(seed: int, length: int) -> None:
    random = np.random.default_rng(seed)
    made = shifted(random.normal(0.3, 1, (3, length)).astype(np.float32), bits=4, block=32)
    vector = random.normal(size=length).astype(np.float32)
    means = vector.reshape(-1, 32).mean(axis=1)
    wide = made.widened()
    assert wide.values.shape[1] % 32 == 0
    columns = wide.dequantized()[:, : length + len(means)]
    found = columns @ np.concatenate([vector, means])
    np.testing.assert_allclose(found, made.dequantized() @ vector, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 1e-12, 3.0, -3.0])
def test_constant_blocks_keep_their_value_as_an_offset(value: float) -> None:
    made = shifted(np.full((2, 64), value, np.float32), bits=4, block=32)
    assert np.abs(made.dequantized() - value).max() <= 0.01 * abs(value) + 1e-5


def test_fitted_weights_lose_less_of_what_is_computed() -> None:
    """GPTQ against rounding, on inputs that are correlated as a model's are."""
    inputs = RANDOM.normal(size=(2000, 16)) @ RANDOM.normal(size=(16, 128))
    inputs = (inputs + 0.1 * RANDOM.normal(size=inputs.shape)).astype(np.float32)
    weights = matrix()
    fitted = compensated(weights, inputs.T @ inputs, bits=4, block=32).dequantized()
    rounded = nearest(weights, bits=4, block=32, centred=False).dequantized()

    def lost(made: np.ndarray) -> float:
        return float(np.square(inputs @ (made - weights).T).mean())

    assert lost(fitted) < 0.5 * lost(rounded)


def test_inputs_that_never_occur_do_no_harm() -> None:
    inputs = RANDOM.normal(size=(500, 64)).astype(np.float32)
    inputs[:, 10:20] = 0
    made = compensated(matrix(length=64), inputs.T @ inputs, bits=4, block=32)
    assert np.isfinite(made.dequantized()).all()


def test_two_values_share_a_byte_the_first_in_its_lower_half() -> None:
    values = np.arange(32, dtype=np.uint8)[None] % 16
    blocks = Blocks(values, np.ones((1, 1), np.float32), np.full((1, 1), 7, np.uint8), 4)
    assert blocks.packed().shape == (1, 1, 16)
    assert blocks.packed()[0, 0, :2].tolist() == [0x10, 0x32]
    zeros = blocks.packed_zeros()
    assert zeros is not None
    assert zeros.tolist() == [[7]]
