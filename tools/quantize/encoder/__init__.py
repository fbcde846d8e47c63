"""Encoders of text: a Hugging Face folder to int8 with its tokenizer.

Owns the proof that the packaged tokenizer reads as the model's own, and the judgement by similarities
of sentence pairs. Never quantizes by itself: the graph goes the way of every ONNX graph.
"""
