"""Readings in, warnings out: sources, decoding, one detector per stream, one commit per batch.

Owns how bytes become rows, which stream belongs to which pipeline, the order push, commit,
acknowledge, and what a scored batch sends to the cloud. Never decides what a score means (that is
the task's), never speaks to a broker or a disk itself (links and the database are handed in), and
never acknowledges a reading whose effect is not on disk.
"""
