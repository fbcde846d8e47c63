"""Where readings come from: MQTT topics, recordings, standard input.

Owns how each source names streams and paces itself, and when a source's own acknowledgement is
given: after the readings are on the disk. Never owns a connection (links are handed in) and never
scores.
"""
