"""Models in child processes that can end.

Owns the channel between the daemon and a worker: a fresh interpreter with limits of its own, tensors
in shared memory, calls and streams side by side, and restarts. A model that crashes, hangs or eats
memory ends its worker; whoever waited is told at once. Never decides which model is isolated
(`engines.placement`) and knows no model's meaning: what runs in the child is a `Program` by name.

The daemon believes nothing that a worker says: its answers are checked as a stranger's would be.
"""
