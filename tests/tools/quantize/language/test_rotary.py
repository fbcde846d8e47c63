"""Tables of positions are computed only where that gives the same numbers."""

import numpy as np
import pytest

from tools.quantize.language.rotary import TABLES, compute, frequencies


def tables(
    theta: float, positions: int = 4096, size: int = 64, damped: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """As the model builder makes them, float32 [positions, size / 2]."""
    inverse = 1.0 / theta ** (np.arange(0, size, 2, dtype=np.float32) / size)
    angles = np.outer(np.arange(positions, dtype=np.float32), inverse.astype(np.float32))
    return np.cos(angles) * np.float32(damped), np.sin(angles) * np.float32(damped)


@pytest.mark.parametrize("theta", [1e4, 1e5, 5e5, 1e6])
def test_frequencies_are_found_to_the_last_bit(theta: float) -> None:
    found = frequencies(*tables(theta))
    assert found is not None
    expected = (1.0 / theta ** (np.arange(0, 64, 2, dtype=np.float32) / 64)).astype(np.float32)
    np.testing.assert_allclose(found, expected, rtol=2e-7)


def test_tables_of_another_kind_are_left_as_they_are() -> None:
    from onnx import GraphProto, numpy_helper

    assert frequencies(*tables(1e4, damped=1.2)) is None
    cosines, sines = tables(1e4)
    cosines[100:] = np.roll(cosines[100:], 1, axis=0)  # scaled from a position on
    assert frequencies(cosines, sines) is None
    assert frequencies(cosines[:1], sines[:1]) is None
    graph = GraphProto()
    for name, values in zip(TABLES, (cosines, sines), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    before = graph.SerializeToString()
    assert not compute(graph, cosines, sines)
    assert graph.SerializeToString() == before


def test_the_runtime_computes_the_same_tables() -> None:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    cosines, sines = tables(1e5, positions=8192)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in TABLES]
    graph = helper.make_graph([], "tables", [], outputs)
    for name, values in zip(TABLES, (cosines, sines), strict=True):
        graph.initializer.append(numpy_helper.from_array(values, name))
    assert compute(graph, cosines, sines)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    data = model.SerializeToString()
    assert len(data) < 2000
    found = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {})
    np.testing.assert_allclose(found[0], cosines, atol=2e-6)
    np.testing.assert_allclose(found[1], sines, atol=2e-6)
