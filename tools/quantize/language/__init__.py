"""Small language models, from a GGUF file or a Hugging Face folder to ONNX Runtime GenAI.

Owns what such a model needs beside its weights: a tokenizer that two libraries must read alike, texts
to judge it by, and quantization of its matrices to 4 and 8 bits. Never chooses a recipe, times or
packages: those are the same for every family.
"""
