"""Golden cases of a tensor model: a few samples, with what devices may differ by."""

import numpy as np

from agent.engines.base import Session
from agent.types import Array
from tools.quantize.family import GoldenInput
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import batches

CASES = 4

#: Processors and delegates round differently, on unusual inputs by many steps. What must not differ
#: is the task's result: so much of what the outputs span is allowed.
SHARE = 0.1
LEAST_STEPS = 4.0  # for outputs that are stored integers
LEAST_REAL = 1e-5


def golden_cases(session: Session, samples: Samples) -> list[GoldenInput]:
    """The first samples, with a tolerance in stored units."""
    cases = list(batches(session, samples.first(CASES), 1))
    tolerance = _tolerance([array for case in cases for array in session.run(case).values()])
    return [GoldenInput(f"sample-{i}", case, tolerance) for i, case in enumerate(cases)]


def _tolerance(results: list[Array]) -> float:
    whole = all(array.dtype.kind in "iub" for array in results)
    numbers = [array.astype(np.float64).ravel() for array in results if array.dtype.kind in "fiub"]
    span = float(np.ptp(np.concatenate(numbers))) if numbers else 0.0
    return float(f"{max(SHARE * span, LEAST_STEPS if whole else LEAST_REAL):.3g}")
