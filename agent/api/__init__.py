"""The local API: how programs on this machine call the agent.

Owns the HTTP/1.1 server on a Unix socket, the mapping of callers to roles and of errors to statuses,
the Open Inference Protocol and the agent's own verbs, and the client that the commands use. One
class, `service.Service`, holds the verbs; everything that speaks a protocol is thin over it. It never
loads a model from request bytes, never trusts a length that a client declares, and never answers
what a client sends with a 500.
"""
