"""The Open Inference Protocol, version 2: bytes to tensors and back.

Owns the JSON messages, the binary tensor extension and the element types of the wire. Pure: it never
reads a socket, a file or a clock, and never runs a model. Arbitrary bytes make it raise AgentError
and nothing else; a length that a client declares is compared with what is there before it is used.
"""
