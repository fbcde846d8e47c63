"""How a model file is executed.

Owns the contract of a loaded model (`base`), the table of engines (`catalog`) and one file for each
runtime, which alone imports that runtime. Never decides whether a model may run (`trust`), what its
tensors mean (`tasks`) or which model answers (`routing`); takes bytes that were already verified.
"""
