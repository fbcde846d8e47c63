"""What is found out about a model by running it, before anybody asks it."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from agent.engines.base import NUMPY_DTYPES
from agent.errors import AgentError
from agent.types import Array, Tensors, TensorSpec

TIMED_RUNS = 3  # the fastest of so many is what a run typically takes
BATCH_ROWS = 8  # requests that are joined to see what a batch gains
WORTH_JOINING_S = (100e-6, 0.25)  # runs so long: shorter ones cost less than joining them would

Run = Callable[[Tensors], Mapping[str, Array]]


def typical_seconds(run: Run, tensors: Tensors) -> float:
    """What a run takes, seconds."""
    return min(_timed(run, tensors) for _ in range(TIMED_RUNS))


def batch_gain(run: Run, example: Tensors | None, typical_s: float) -> float:
    """How many times more requests a model answers per second when they are joined along the first size.

    Args:
        run: the model.
        example: a request; its variations are what is joined.
        typical_s: what it takes, seconds.

    Returns:
        0 where joining is not worth it, or changes the answers: a model may look at its rows together.
    """
    if not example or not WORTH_JOINING_S[0] <= typical_s <= WORTH_JOINING_S[1]:
        return 0.0
    requests = [_variation(example, number) for number in range(BATCH_ROWS)]
    joined = {name: np.concatenate([r[name] for r in requests]) for name in example}
    try:
        alone = [run(request) for request in requests]
        together = run(joined)
        same = all(
            _equal(np.concatenate([answer[name] for answer in alone]), array)
            for name, array in together.items()
        )
        return BATCH_ROWS * typical_s / typical_seconds(run, joined) if same else 0.0
    except (AgentError, ValueError):  # it does not take several, or not in this number
        return 0.0


def zeros(spec: TensorSpec) -> Array:
    """A tensor that fits, free sizes 1."""
    shape = tuple(1 if size == -1 else size for size in spec.shape)
    fill = b"" if spec.dtype == "BYTES" else 0
    return np.full(shape, fill, dtype=NUMPY_DTYPES[spec.dtype])


def _variation(example: Tensors, number: int) -> dict[str, Array]:
    """Another request of the same kind: its elements in another order, and some of them all alike."""
    return {name: _varied(array, number) for name, array in example.items()}


def _varied(array: Array, number: int) -> Array:
    found = np.roll(array, number, axis=-1)
    found[..., : number * array.shape[-1] // BATCH_ROWS] = found[..., -1:]
    return found


def _equal(one: Array, other: Array) -> bool:
    if one.shape != other.shape:
        return False
    if one.dtype.kind in "iub":  # a quantization step may be rounded the other way
        return bool(np.all(np.abs(one.astype(np.float64) - other) <= 1))
    return bool(np.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True))


def _timed(run: Run, tensors: Tensors) -> float:
    start = time.perf_counter()
    run(tensors)
    return time.perf_counter() - start
