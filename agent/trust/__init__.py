"""May these bytes run here?

Owns the answer and what it rests on: the manifest of a package, the rules for versions, time and
tensors (`policy`), digests, and the TUF client (`updater`, the only file that imports tuf). Never
keeps state of its own beyond the client's metadata cache, never executes a model (`engines`), and
never decides which of the trusted models is active (`registry`). There is no switch that turns
verification off.
"""
