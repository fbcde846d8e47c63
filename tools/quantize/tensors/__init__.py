"""What families of tensor models share: evaluation sets, feeding a session, metrics.

Knows arrays and sessions, and no file format of models.
"""
