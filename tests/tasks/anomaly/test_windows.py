"""Windows are cut without copying, and say what the rows say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.errors import BadManifest
from agent.tasks.anomaly.windows import Shape, compress, cut


@given(st.integers(2, 9), st.integers(1, 4), st.integers(0, 20), st.integers(1, 5))
def test_each_window_ends_at_its_row(points: int, step: int, more: int, sensors: int) -> None:
    shape = Shape(smooth=1, points=points, step=step)
    views = np.random.default_rng(0).integers(-99, 99, (shape.span + more, sensors, 3), np.int8)
    windows = cut(views, shape)
    assert windows.shape == (more + 1, sensors, 3, points)
    for row, window in enumerate(windows):
        expected = views[row : row + shape.span : step].transpose(1, 2, 0)
        np.testing.assert_array_equal(window, expected)


def test_windows_of_views_that_are_not_contiguous() -> None:
    shape = Shape(smooth=1, points=3, step=2)
    views = np.arange(2 * 9 * 4).reshape(9, 4, 2)[:, ::2]
    np.testing.assert_array_equal(cut(views, shape)[0, 1, 0], views[[0, 2, 4], 1, 0])


def test_a_window_rests_on_the_rows_of_its_means_too() -> None:
    assert Shape(smooth=16, points=32, step=2).rows == 16 + 62


@pytest.mark.parametrize("shape", [(0, 8, 1), (16, 1, 1), (16, 8, 0), (2000, 8, 1)])
def test_windows_out_of_range_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(BadManifest):
        Shape(*shape)


def test_compression_keeps_sign_and_order_and_tells_small_from_none() -> None:
    values = np.array([-1000.0, -1.0, -0.1, 0.0, 0.1, 1.0, 1000.0])
    found = compress(values)
    assert (np.diff(found) > 0).all()
    np.testing.assert_allclose(found, -found[::-1])
    assert found[4] == pytest.approx(0.1, rel=0.01)
