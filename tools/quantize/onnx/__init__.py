"""The ONNX family: a float graph, to int8 or to int4 weights, by onnxruntime's quantizer.

Owns reading a graph from any of its sources, the recipes, and the comparison of two graphs layer by
layer. What a set and a metric are, `tensors` knows.
"""
