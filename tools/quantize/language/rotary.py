"""Tables of rotary positions (Su et al., "RoFormer", 2021), computed instead of stored.

A table holds the cosine or the sine of position times frequency, for each position of the model's
window: megabytes that a few frequencies say. The runtime computes them once, when it loads the model.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLES = ("cos_cache", "sin_cache")  # as the model builder of onnxruntime-genai names them
CLOSE = 2e-6  # a cosine of float32 differs by less between two libraries

Floats = NDArray[np.float32]


def frequencies(cosines: Floats, sines: Floats) -> Floats | None:
    """What the tables are made of.

    Args:
        cosines: float32 [positions, n].
        sines: float32 [positions, n].

    Returns:
        float32 [n], radians for each position; None where the tables are not of this kind (scaled by
        position, or damped).
    """
    places = np.arange(len(cosines), dtype=np.float64)
    if len(places) < 2:
        return None
    angles = np.unwrap(np.arctan2(sines.astype(np.float64), cosines), axis=0)
    found = ((places @ angles) / (places @ places)).astype(np.float32)
    products = places.astype(np.float32)[:, None] * found
    for table, function in ((cosines, np.cos), (sines, np.sin)):
        if np.abs(function(products) - table).max() > CLOSE:
            return None
    return found


def compute(graph: Any, cosines: Floats, sines: Floats) -> bool:
    """Have a graph compute its tables; False, and nothing changed, where it cannot.

    Args:
        graph: onnx.GraphProto with initializers named as `TABLES`.
        cosines: the first one's values.
        sines: the second one's.
    """
    from onnx import numpy_helper

    found = frequencies(cosines, sines)
    if found is None:
        return False
    for name, values in {
        "rotary.first": np.float32(0),
        "rotary.positions": np.float32(len(cosines)),
        "rotary.step": np.float32(1),
        "rotary.column": np.array([-1, 1]),
        "rotary.frequencies": found,
    }.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(values), name))
    for tensor in [t for t in graph.initializer if t.name in TABLES]:
        graph.initializer.remove(tensor)
    for place, node in enumerate(_nodes()):
        graph.node.insert(place, node)
    return True


def _nodes() -> list[Any]:
    from onnx.helper import make_node

    bounds = ["rotary.first", "rotary.positions", "rotary.step"]
    return [
        make_node("Range", bounds, ["rotary.range"], name="/rotary/range"),
        make_node("Reshape", ["rotary.range", "rotary.column"], ["rotary.t"], name="/rotary/t"),
        make_node("Mul", ["rotary.t", "rotary.frequencies"], ["rotary.a"], name="/rotary/a"),
        make_node("Cos", ["rotary.a"], [TABLES[0]], name="/rotary/cos"),
        make_node("Sin", ["rotary.a"], [TABLES[1]], name="/rotary/sin"),
    ]
