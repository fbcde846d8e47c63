"""Where the error arises: both graphs run on the same inputs, tensor by tensor.

For a layer with output y in the float graph and y' in the quantized one, signal to quantization noise
is 10 log10(Σ y² / Σ (y - y')²). Noise of earlier layers is in it, so a layer is blamed by what it
adds: the noise share of its output less the largest noise share of its inputs.
"""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from agent.engines.base import EngineOptions, Session
from agent.engines.catalog import load_session
from tools.quantize.family import CLEAN_DB, LayerError
from tools.quantize.onnx import graph
from tools.quantize.tensors.samples import Samples
from tools.quantize.tensors.session import batches

SAMPLES = 16  # compared


def layer_errors(original: Any, made: Any, samples: Samples) -> list[LayerError]:
    """Layers of the float graph by the noise that quantization adds, worst first.

    Args:
        original: the float graph from which `made` was made, its nodes named.
        made: the quantized graph, which keeps the names of tensors.
        samples: inputs to compare on.
    """
    pairs = _pairs(original, made)
    noise = _noise(original, made, pairs, samples.first(SAMPLES))
    found = [
        LayerError(
            node.name,
            node.op_type,
            _decibels(noise[output]),
            _decibels(_added(noise, inputs, output)),
        )
        for node, output, inputs in _watched(original)
        if output in noise
    ]
    return sorted(found, key=lambda layer: layer.own_db or 0.0)


def _watched(model: Any) -> Iterator[tuple[Any, str, list[str]]]:
    for node in graph.layers(model):
        yield node, graph.visible_output(model, node), list(graph.activation_inputs(model, node))


def _pairs(original: Any, made: Any) -> dict[str, str]:
    """Tensor of the float graph -> the same one in the quantized graph, as its readers see it."""
    known = graph.producers(made)
    wanted = {name for _, output, inputs in _watched(original) for name in (output, *inputs)}
    pairs = {}
    for name in wanted & graph.producers(original):
        read = f"{name}_DequantizeLinear_Output"
        if read in known or name in known:
            pairs[name] = read if read in known else name
    return pairs


def _noise(
    original: Any, made: Any, pairs: Mapping[str, str], samples: Samples
) -> dict[str, float]:
    """Noise power as a share of signal power, for each tensor."""
    signal, error = dict.fromkeys(pairs, 0.0), dict.fromkeys(pairs, 0.0)
    one = _session(graph.with_outputs(original, pairs))
    two = _session(graph.with_outputs(made, pairs.values()))
    for tensors in batches(one, samples, 1):
        before, after = one.run(tensors), two.run(tensors)
        for name, other in pairs.items():
            x, y = before[name], after[other]
            if x.dtype.kind == "f" and x.shape == y.shape:
                signal[name] += float(np.square(x, dtype=np.float64).sum())
                error[name] += float(np.square(x.astype(np.float64) - y).sum())
    one.close()
    two.close()
    return {name: error[name] / signal[name] for name in pairs if signal[name] > 0}


def _session(model: Any) -> Session:
    return load_session("onnx", model.SerializeToString(), EngineOptions())


def _added(noise: Mapping[str, float], inputs: list[str], output: str) -> float:
    brought = max((noise.get(name, 0.0) for name in inputs), default=0.0)
    return max(0.0, noise[output] - brought)


def _decibels(share: float) -> float:
    return min(CLEAN_DB, -10 * math.log10(share)) if share > 0 else CLEAN_DB
