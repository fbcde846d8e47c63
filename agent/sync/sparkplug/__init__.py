"""Telemetry as Sparkplug B (Eclipse Sparkplug 3.0.0) instead of JSON, by one setting.

Owns the payload's encoding (`payload`, pure), what a summary of a stream says in metrics (`metrics`,
pure), and the session's births, deaths and sequence numbers (`session`, pure). The device is an edge
node, each stream one of its devices. It never sends and never stores: rows stay JSON in the outbox,
are translated when they go, and `uplink` sends them.
"""
