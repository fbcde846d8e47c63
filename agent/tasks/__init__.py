"""What a model means: raw input to tensors, tensors to a result that a person can act on.

Owns preparation, interpretation and the state that a task keeps between calls. Everything here is
pure: values and a loaded model in, values out; no clock, no socket, no disk. It never decides which
model answers, and never loads one.
"""
