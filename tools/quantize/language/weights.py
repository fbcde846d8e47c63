"""Matrices in blocks of few bits. Pure.

A matrix [K, N] is held as its transpose, [N, K], in blocks of `block` weights along K that share a
scale, and a zero point where values need not be centred on 0: what the operators MatMulNBits and
GatherBlockQuantized of ONNX Runtime read. Their fast paths take whole numbers as zero points. What a
block's zero point misses is one number for all of its weights, so it is multiplied with the mean of
what the block is multiplied with: as one more column of the matrix for each block.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

SPANS = tuple(range(15, 8, -1))  # steps from a block's least to its largest weight, tried likewise
EXACT = 1e-2  # of a step: an offset below it is the source's own rounding
SHRINKS = np.linspace(1.0, 0.75, 11, dtype=np.float32)  # of a block's range, tried for least error
COLUMNS = 32  # that GPTQ settles before it carries their error to the rest
DAMPING = 0.01  # of the mean curvature, so that its inverse exists


@dataclass(frozen=True, slots=True)
class Blocks:
    """A quantized matrix.

    Attributes:
        values: uint8 [N, K], each below 2**bits.
        scales: float32 [N, K / block], each a value of float16.
        zeros: uint8 [N, K / block]; None where all are 2**(bits - 1).
        bits: 4 or 8.
        offsets: what is added to each weight of a block, times the weights in a block: a matrix
            [N, K / block], filled up to whole blocks; None for nothing.
    """

    values: NDArray[np.uint8]
    scales: Floats
    zeros: NDArray[np.uint8] | None
    bits: int
    offsets: "Blocks | None" = None

    @property
    def block(self) -> int:
        """Weights that share a scale."""
        return int(self.values.shape[1] // self.scales.shape[1])

    def dequantized(self) -> Floats:
        """The matrix that it stands for, float32 [N, K]."""
        zeros = self.zero_points().astype(np.float32).repeat(self.block, axis=1)
        found = (self.values.astype(np.float32) - zeros) * self.scales.repeat(self.block, axis=1)
        if self.offsets is None:
            return found
        offsets = self.offsets.dequantized()[:, : self.scales.shape[1]] / np.float32(self.block)
        return found + offsets.repeat(self.block, axis=1)

    def widened(self) -> "Blocks":
        """With its offsets as more columns, for a vector followed by the means of its blocks."""
        if self.offsets is None:
            return self
        more = self.offsets
        zeros = np.hstack([self.zero_points(), more.zero_points()])
        scales = np.hstack([self.scales, more.scales])
        return Blocks(np.hstack([self.values, more.values]), scales, zeros, self.bits)

    def packed(self) -> NDArray[np.uint8]:
        """Values as the operators read them: uint8 [N, K / block, block * bits / 8]."""
        rows, blocks = self.scales.shape
        return _nibbles(self.values, self.bits).reshape(rows, blocks, -1)

    def packed_zeros(self) -> NDArray[np.uint8] | None:
        """Zero points as the operators read them: two in a byte when they have four bits."""
        if self.zeros is None:
            return None
        odd = self.bits == 4 and self.zeros.shape[1] % 2
        padded = np.pad(self.zeros, ((0, 0), (0, 1))) if odd else self.zeros
        return _nibbles(padded, self.bits)

    def zero_points(self) -> NDArray[np.uint8]:
        """The value that stands for 0 in each block, uint8 [N, K / block]."""
        if self.zeros is None:
            return np.full(self.scales.shape, 2 ** (self.bits - 1), np.uint8)
        return self.zeros


def nearest(matrix: Floats, *, bits: int, block: int, centred: bool) -> Blocks:
    """Round to nearest.

    Args:
        matrix: float32 [N, K]; K is a multiple of the block.
        bits: 4 or 8.
        block: weights that share a scale.
        centred: zero points are all in the middle, and cost no room.
    """
    rows, length = matrix.shape
    parts = matrix.reshape(rows, length // block, block)
    scales, zeros = _fitted(parts, bits, centred=centred)
    values = _rounded(parts, scales[..., None], zeros[..., None], bits)
    kept = None if centred else zeros.astype(np.uint8)
    return Blocks(values.astype(np.uint8).reshape(rows, length), scales, kept, bits)


def shifted(matrix: Floats, *, bits: int, block: int) -> Blocks:
    """Round to nearest, with zero points that are real numbers: whole ones, and offsets.

    A matrix that was already rounded so, as in the types Q4_0 and Q4_1 of GGUF files, is found again:
    its values, its scales, and its offsets to a thirtieth of a step.

    Args:
        matrix: float32 [N, K]; K is a multiple of the block.
        bits: 4 or 8.
        block: weights that share a scale and a zero point.
    """
    rows, length = matrix.shape
    parts = matrix.reshape(rows, length // block, block)
    scales, lows, values = _spanned(parts, bits)
    steps = 2**bits - 1
    zeros = np.clip(np.round(-lows / scales), 0, steps).astype(np.float32)
    missed = lows + zeros * scales
    made = Blocks(values.reshape(rows, length), scales, zeros.astype(np.uint8), bits)
    if (np.abs(missed) <= EXACT * scales).all():
        return made
    return replace(made, offsets=_columns(missed * block, bits, block))


def compensated(matrix: Floats, curvature: Floats, *, bits: int, block: int) -> Blocks:
    """GPTQ (Frantar et al., 2023): what rounding one weight loses, the next ones make good.

    Scales and zero points are those of the matrix as it is; columns are settled by falling curvature,
    so that those that matter most are rounded first and are made good by all the others.

    Args:
        matrix: float32 [N, K].
        curvature: float32 [K, K], the sum of x xT over what the matrix is multiplied with.
        bits: 4 or 8.
        block: weights that share a scale.
    """
    rows, length = matrix.shape
    scales, zeros = _fitted(matrix.reshape(rows, length // block, block), bits, centred=False)
    order = np.argsort(-np.diagonal(curvature), kind="stable")
    groups = order // block
    factor = _inverse_factor(curvature[np.ix_(order, order)])
    # Transposed: a column of the matrix is a row here, which lies together in memory.
    left = np.ascontiguousarray(matrix.T[order], np.float64)
    scale_of, zero_of = np.ascontiguousarray(scales.T), np.ascontiguousarray(zeros.T)
    values = np.empty((length, rows), np.uint8)
    for start in range(0, length, COLUMNS):
        end = min(start + COLUMNS, length)
        lost = np.empty((end - start, rows))
        for column in range(start, end):
            scale, zero = scale_of[groups[column]], zero_of[groups[column]]
            rounded = _rounded(left[column], scale, zero, bits)
            values[order[column]] = rounded
            error = (left[column] - (rounded - zero) * scale) / factor[column, column]
            left[column + 1 : end] -= np.outer(factor[column, column + 1 : end], error)
            lost[column - start] = error
        left[end:] -= factor[start:end, end:].T @ lost
    return Blocks(np.ascontiguousarray(values.T), scales, zeros.astype(np.uint8), bits)


def _spanned(parts: Floats, bits: int) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Scale, least value and steps above it of each block [..., block] that lose least.

    Blocks that were rounded before are met exactly by the number of steps that they span; others by
    a range that leaves out a little at both ends.
    """
    steps = 2**bits - 1
    low, high = parts.min(-1), parts.max(-1)
    tried = [(low, (high - low) / span) for span in SPANS]
    middle, half = (low + high) / 2, (high - low) / 2
    tried += [(middle - half * shrink, 2 * half * shrink / steps) for shrink in SHRINKS[1:]]
    best = np.full(low.shape, np.inf, np.float32)
    scales, lows = np.empty_like(low), np.empty_like(low)
    values = np.empty(parts.shape, np.uint8)
    for start, width in tried:
        scale = _as_float16(width)[..., None]
        found = np.clip(np.round((parts - start[..., None]) / scale), 0, steps)
        least = (parts - found * scale).mean(-1)
        error = np.square(parts - found * scale - least[..., None]).sum(-1)
        better = error < best
        best = np.where(better, error, best)
        scales, lows = np.where(better, scale[..., 0], scales), np.where(better, least, lows)
        values[better] = found[better].astype(np.uint8)
    return scales, lows, values


def _columns(numbers: Floats, bits: int, block: int) -> Blocks:
    """A matrix [N, n] in blocks, n filled up with zeros to a multiple of the block."""
    rest = -numbers.shape[1] % block
    return nearest(np.pad(numbers, ((0, 0), (0, rest))), bits=bits, block=block, centred=True)


def _inverse_factor(curvature: Floats) -> NDArray[np.float64]:
    """Upper triangular U with UT U the inverse of the damped curvature."""
    damped = curvature.astype(np.float64)
    diagonal = np.diagonal(damped).copy()
    unused = diagonal <= 0
    damped[unused, unused] = 1.0
    damped[np.diag_indices_from(damped)] += DAMPING * max(float(diagonal.mean()), 1e-12)
    return np.ascontiguousarray(np.linalg.cholesky(np.linalg.inv(damped)).T)


def _fitted(parts: Floats, bits: int, *, centred: bool) -> tuple[Floats, Floats]:
    """Scale and zero point of each block [..., block] that lose least, of several ranges tried."""
    best = np.full(parts.shape[:-1], np.inf, np.float32)
    scales = np.ones(parts.shape[:-1], np.float32)
    zeros = np.zeros(parts.shape[:-1], np.float32)
    for shrink in SHRINKS:
        scale, zero = _range(parts, bits, shrink, centred=centred)
        values = _rounded(parts, scale[..., None], zero[..., None], bits)
        kept = (values - zero[..., None]) * scale[..., None]
        error = np.square(parts - kept).sum(axis=-1)
        better = error < best
        best = np.where(better, error, best)
        scales, zeros = np.where(better, scale, scales), np.where(better, zero, zeros)
    return scales, zeros


def _range(parts: Floats, bits: int, shrink: np.float32, *, centred: bool) -> tuple[Floats, Floats]:
    """Scale, as float16 can say it, and zero point for a share of each block's range."""
    steps = 2**bits - 1
    if centred:
        largest = np.take_along_axis(parts, np.abs(parts).argmax(-1)[..., None], -1)[..., 0]
        # The side with one step more goes to the larger value; 8 bits have steps to spare.
        scale = largest / -(2 ** (bits - 1)) if bits == 4 else np.abs(largest) / (steps // 2)
        zero = np.full(scale.shape, 2.0 ** (bits - 1), np.float32)
        return _as_float16(scale * shrink), zero
    low = np.minimum(parts.min(-1), 0) * shrink
    high = np.maximum(parts.max(-1), 0) * shrink
    scale = _as_float16((high - low) / steps)
    return scale, np.clip(np.round(-low / scale), 0, steps).astype(np.float32)


def _as_float16(scale: Floats) -> Floats:
    rounded = scale.astype(np.float16).astype(np.float32)
    return np.where(rounded == 0, np.float32(1e-7), rounded)


def _rounded(
    values: NDArray[np.floating], scale: Floats, zero: Floats, bits: int
) -> NDArray[np.floating]:
    return np.clip(np.round(values / scale) + zero, 0, 2**bits - 1)


def _nibbles(values: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    if bits == 8:
        return values
    return (values[:, ::2] | (values[:, 1::2] << 4)).astype(np.uint8)
