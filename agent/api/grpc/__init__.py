"""The Open Inference Protocol over gRPC, on a Unix socket of its own.

Owns HTTP/2 as far as gRPC uses it (`frames`, `headers`, pure; `connection`), the protocol's messages
(`schema`), and their translation into the verbs of the service (`codec`, `methods`). It knows models
no better than the HTTP routes do: both ask the same service. Loaded only where it is configured.
"""
