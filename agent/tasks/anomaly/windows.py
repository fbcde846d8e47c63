"""The windows that the model sees: for each row and sensor, the views of the recent past."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from agent.errors import BadManifest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shape:
    """How a window is cut.

    Attributes:
        smooth: rows of the trailing mean that the baseline works on.
        points: points of each view in a window.
        step: rows between two points.
    """

    smooth: int
    points: int
    step: int

    def __post_init__(self) -> None:
        if not (1 <= self.smooth <= 1024 and 2 <= self.points <= 1024 and 1 <= self.step <= 64):
            raise BadManifest(f"the window {self} is out of range", where="parameters")

    @property
    def span(self) -> int:
        """Rows of views from the first point of a window to its last."""
        return (self.points - 1) * self.step + 1

    @property
    def rows(self) -> int:
        """Rows of readings that one window rests on."""
        return self.span + self.smooth - 1


def compress(views: "Floats") -> "Floats":
    """The inverse hyperbolic sine: linear around normal, logarithmic far out.

    So eight bits can tell half a standard deviation from none as well as 60 from 80.
    """
    return np.asarray(np.arcsinh(views))


def cut(views: "NDArray[Any]", shape: Shape) -> "NDArray[Any]":
    """Every window of consecutive views, without copying.

    Args:
        views: [m, k, c], c views of k sensors in m rows.
        shape: of the windows.

    Returns:
        [m - span + 1, k, c, points]; the last point is the row that the window is about.
    """
    flat = np.ascontiguousarray(views)
    m, k, c = flat.shape
    row, sensor, view = flat.strides
    size = (m - shape.span + 1, k, c, shape.points)
    # As numpy's sliding_window_view with a step, at a tenth of its cost for a single row.
    return np.ndarray(size, flat.dtype, flat, strides=(row, sensor, view, row * shape.step))
